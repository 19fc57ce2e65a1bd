"""From what a world imagined to curves of metrics over the horizon."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from evaluation.world_measure import Measured, Predictions
from evaluation.world_statistics import (
    Curve,
    Statistic,
    correlation,
    make_curve,
    mean,
    mean_distance,
    psnr_difference,
    psnr_of_mean,
    ratio_of_sums,
)

Pick = Callable[[Predictions], np.ndarray]
MakeCurve = Callable[..., Curve]


@dataclass(frozen=True)
class Metric:
    """A metric's name, and its curve for each way of predicting.

    The ways are `model` (the mean over samples), `best` (of the samples, at each step), `shuffled` (actions of other
    segments), `copy` (of the last frame) and `real` (frames). `limits` are those of the axis in figures.
    """

    name: str
    unit: str = ""
    limits: tuple[float, float] | None = None
    curves: dict[str, Curve] = field(default_factory=dict)


def summarise(measured: Measured, confidence: float = 0.95) -> list[Metric]:
    """All metrics that this world has; those of rewards and ends are missing for a world without them."""
    make = partial(make_curve, confidence=confidence)
    metrics = [
        Metric("psnr", "dB", curves=_frames(measured, lambda each: each.error, np.fmin, psnr_of_mean, make)),
        Metric(
            "psnr_moving", "dB", curves=_frames(measured, lambda each: each.moving_error, np.fmin, psnr_of_mean, make)
        ),
        Metric("ssim", curves=_frames(measured, lambda each: each.similarity, np.fmax, mean, make)),
    ]
    model, shuffled = measured.model, measured.shuffled
    if shuffled is not None:
        errors = model.error.mean(axis=0), shuffled.error[0]
        metrics.append(Metric("controllability", "dB", curves={"model": make(psnr_difference, *errors)}))
    if model.rew is not None:
        for sign, name in ((1, "reward_positive"), (-1, "reward_negative")):
            metrics += _events(measured, name, measured.rew, lambda each: each.rew, sign, make)
        metrics += _events(measured, "end", measured.end, lambda each: each.end, 1, make)
    if model.value is not None:
        for name, statistic in (("value_correlation", correlation), ("value_error", mean_distance)):
            values = {"model": model.value[0], "real": measured.real_value}
            if shuffled is not None:
                values["shuffled"] = shuffled.value[0]
            curves = {way: make(statistic, value, measured.returns) for way, value in values.items()}
            metrics.append(Metric(name, curves=curves))
    return metrics


def count_segments(measured: Measured) -> np.ndarray:
    """The number of segments that are recorded, at each step."""
    return measured.recorded.mask.sum(dim=0).numpy()


def _frames(measured: Measured, pick: Pick, best: np.ufunc, statistic: Statistic, make: MakeCurve) -> dict[str, Curve]:
    """The curves of a metric of frames, `pick`ed from each way of predicting: means over samples, then segments."""
    samples = pick(measured.model)
    columns = {"model": samples.mean(axis=0), "best": best.reduce(samples, axis=0)}
    if measured.shuffled is not None:
        columns["shuffled"] = pick(measured.shuffled)[0]
    columns["copy"] = pick(measured.copied)[0]
    return {way: make(statistic, values) for way, values in columns.items()}


def _events(
    measured: Measured, name: str, happened: np.ndarray, pick: Pick, wanted: int, make: MakeCurve
) -> list[Metric]:
    """Precision and recall of an event, pooled over all steps up to each one; none if it neither happened nor was
    predicted.
    """
    precision, recall = (
        Metric(f"{name}_precision", limits=(-0.03, 1.03)),
        Metric(f"{name}_recall", limits=(-0.03, 1.03)),
    )
    is_there = (happened == wanted).any() or (pick(measured.model) == wanted).any()
    for way, predictions in (("model", measured.model), ("shuffled", measured.shuffled)):
        if predictions is None:
            continue
        values = pick(predictions)
        predicted, real = values == wanted, (happened == wanted) & ~np.isnan(values)
        # Sums over samples, and over steps so far; those over segments follow, drawn again and again.
        right, all_predicted, all_real = [
            each.sum(axis=0).cumsum(axis=1).astype(np.float64) for each in (predicted & real, predicted, real)
        ]
        precision.curves[way] = make(ratio_of_sums, right, all_predicted)
        recall.curves[way] = make(ratio_of_sums, right, all_real)
    return [precision, recall] if is_there else []
