"""Statistics over segments: each is a function of columns (…, segments), NaN where a segment is not counted."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import DegenerateDataWarning, bootstrap

from evaluation.world_metrics import psnr

RESAMPLES = 1000

Statistic = Callable[..., np.ndarray]
"""`statistic(*columns, axis)` reduces an axis of its columns."""


@dataclass(frozen=True)
class Curve:
    """A metric at each step of the horizon, and the limits of its interval, (t) each; NaN where nothing was counted."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def make_curve(statistic: Statistic, *columns: np.ndarray, confidence: float = 0.95) -> Curve:
    """A statistic of columns (segments, t), with its percentile bootstrap interval over segments.

    Equal columns give the same interval at every call. With fewer than two segments the limits are NaN.
    """
    with np.errstate(all="ignore"), warnings.catch_warnings(category=DegenerateDataWarning, action="ignore"):
        value = statistic(*columns, axis=0)
        if len(columns[0]) < 2:
            return Curve(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
        drawn = bootstrap(
            columns,
            statistic,
            n_resamples=RESAMPLES,
            paired=len(columns) > 1,
            vectorized=True,
            axis=0,
            batch=50,
            method="percentile",
            rng=np.random.default_rng(0),
        ).bootstrap_distribution
    return Curve(value, *_quantiles(drawn, (1 - confidence) / 2))


def mean(values: np.ndarray, axis: int) -> np.ndarray:
    counted = np.isfinite(values)
    return np.where(counted, values, 0).sum(axis=axis) / counted.sum(axis=axis)


def psnr_of_mean(error: np.ndarray, axis: int) -> np.ndarray:
    """PSNR of the mean squared error."""
    return psnr(mean(error, axis))


def psnr_difference(error: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
    """PSNR of one error minus PSNR of another, over the segments where both are counted; 0 if both are infinite."""
    both = np.isfinite(error) & np.isfinite(other)
    ours, theirs = [mean(np.where(both, values, np.nan), axis) for values in (error, other)]
    with np.errstate(invalid="ignore"):
        return np.where((ours == 0) & (theirs == 0), 0.0, psnr(ours) - psnr(theirs))


def ratio_of_sums(part: np.ndarray, whole: np.ndarray, axis: int) -> np.ndarray:
    """As for precision and recall; NaN if the whole is 0."""
    return part.sum(axis=axis) / whole.sum(axis=axis)


def correlation(values: np.ndarray, others: np.ndarray, axis: int) -> np.ndarray:
    """Pearson's correlation, over the segments where both are counted; NaN if one of them does not vary."""
    both = np.isfinite(values) & np.isfinite(others)
    ours, theirs = [np.where(both, column, np.nan) for column in (values, others)]
    ours, theirs = [column - np.expand_dims(mean(column, axis), axis) for column in (ours, theirs)]
    spread = np.sqrt(mean(ours**2, axis) * mean(theirs**2, axis))
    return mean(ours * theirs, axis) / np.where(spread > 1e-12, spread, np.nan)


def mean_distance(values: np.ndarray, others: np.ndarray, axis: int) -> np.ndarray:
    """Mean absolute difference, over the segments where both are counted."""
    return mean(np.abs(values - others), axis)


def _quantiles(drawn: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """The quantiles `tail` and 1 - `tail` of each row, without its NaN: values of the row, which may be infinite."""
    limits = np.full((2, len(drawn)), np.nan)
    for place, row in enumerate(drawn):
        if len(known := row[~np.isnan(row)]):
            limits[:, place] = np.quantile(known, (tail, 1 - tail), method="inverted_cdf")
    return limits[0], limits[1]
