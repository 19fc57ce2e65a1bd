"""Runs beside each other: learning curves over seeds, losses, speeds, and a table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.histories import History
from evaluation.published import Scores, human_normalised
from evaluation.runs import Group, group_runs
from evaluation.statistics import mean_interval, mean_intervals, probability_of_improvement
from evaluation.table import Cell, Row

RETURN = "collection/test/return_mean"
SPEED = "updates_per_second"
WHOLE_LOSSES = ("loss_total", "loss")


@dataclass(frozen=True)
class Band:
    """The mean of a curve over runs, and its 95% bootstrap interval: float64 (n) each.

    `low` and `high` are None for one run.
    """

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def band(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> Band | None:
    """The mean of curves, each given as places (n), in order, and values (n); None if they have nothing in common.

    Curves are interpolated at all places at which one of them has a value, within the range that all of them cover.
    Places that are nan are left out; of several values at one place, the last counts.
    """
    known = [_ordered(x[~np.isnan(x)], y[~np.isnan(x)]) for x, y in curves]
    if not known or any(len(x) == 0 for x, _ in known):
        return None
    start, stop = max(x[0] for x, _ in known), min(x[-1] for x, _ in known)
    places = np.unique(np.concatenate([x for x, _ in known]))
    places = places[(places >= start) & (places <= stop)]
    if len(places) == 0:
        return None
    values = np.stack([np.interp(places, x, y) for x, y in known])
    limits = mean_intervals(values)
    return Band(places, values.mean(axis=0), *((None, None) if limits is None else limits))


def _ordered(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Increasing places, each with its last value."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    is_last = np.append(x[1:] != x[:-1], np.ones(min(1, len(x)), np.bool_))
    return x[is_last], y[is_last]


def components(histories: Sequence[History]) -> list[str]:
    """The names of the trained components of any of the runs."""
    names = dict.fromkeys(name for history in histories for name in history.names)
    return list(dict.fromkeys(name.partition("/")[0] for name in names if "/train/loss" in name))


def loss_name(component: str, history: History) -> str | None:
    """The name of a component's whole loss; of its first part, if it logs no whole; None without that component."""
    prefix = f"{component}/train/"
    own = [name for name in history.names if name.startswith(f"{prefix}loss")]
    whole = [f"{prefix}{name}" for name in WHOLE_LOSSES if f"{prefix}{name}" in own]
    return next(iter([*whole, *own]), None)


def comparison_table(histories: Sequence[History], published: Scores) -> list[Row]:
    """Rows for each run, then for each group of runs that differ in the seed only.

    A group's row shows means over its runs, and the interval of their mean. `return` is the mean return of the final
    test episodes, or of the last ones, if a run is not finished; `evaluated` comes from the last `evaluate.py`.
    """
    groups = group_runs([history.run for history in histories])
    parts = components(histories)
    rows = []
    for game in dict.fromkeys(group.game for group in groups):
        own = [group for group in groups if group.game == game]
        several = any(len(group.members) > 1 for group in own)
        singles = [Group(game, group.label, (member,)) for group in own for member in group.members]
        for kind in (singles, own if several else []):
            for group in kind:
                runs = [histories[member] for member in group.members]
                first = None if group is kind[0] else [histories[member] for member in kind[0].members]
                rows.append(_row(group, runs, first, parts, published, is_group=kind is own))
    return rows


def _row(
    group: Group,
    runs: Sequence[History],
    first: Sequence[History] | None,
    parts: Sequence[str],
    published: Scores,
    is_group: bool,
) -> Row:
    finals = _known(run.latest_return for run in runs)
    returns = [run.evaluated_returns for run in runs if run.evaluated_returns]
    means = [float(np.mean(each)) for each in returns]
    seconds = _known(run.last("time/seconds") for run in runs)
    evaluated = _mean(means)
    best_known = _mean(finals) if evaluated is None else evaluated
    row: Row = {
        "game": group.game,
        "agent": group.label,
        "run": f"all {len(runs)}" if is_group else str(runs[0].run.path),
        "seed": ", ".join(str(run.run.seed) for run in runs),
        "finished": f"{sum(run.is_finished for run in runs)} of {len(runs)}",
        "epochs": _whole(run.last("epoch") for run in runs),
        "steps": _whole(run.last("collection/train/num_steps") for run in runs),
        "hours": None if not seconds else _mean(seconds) / 3600,
        "return": _mean(finals),
        "return, 95% interval": mean_interval(finals),
        "evaluated": evaluated,
        "evaluated, 95% interval": mean_interval(means if is_group else returns[0] if returns else []),
        "human normalised": None if best_known is None else human_normalised(group.game, best_known, published),
        "P(> first)": _improvement(returns, first),
    }
    for part in parts:
        losses = _known(run.last(loss_name(part, run) or "") for run in runs)
        row[f"{part} loss"] = _mean(losses)
        row[f"{part} updates/s"] = _mean(_known(run.last(f"time/{part}/{SPEED}") for run in runs))
    return row


def _improvement(returns: Sequence[Sequence[float]], first: Sequence[History] | None) -> Cell:
    """The probability that an evaluated episode is better than one of the first runs'."""
    theirs = [value for run in first or () for value in run.evaluated_returns]
    ours = [value for each in returns for value in each]
    return probability_of_improvement(ours, theirs) if ours and theirs else None


def _known(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None]


def _whole(values: Iterable[float | None]) -> int | None:
    mean = _mean(_known(values))
    return None if mean is None else round(mean)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
