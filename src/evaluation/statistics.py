"""Statistics of scores: bootstrap intervals, probability of improvement, and aggregates over games."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap, mannwhitneyu, trim_mean

CONFIDENCE, RESAMPLES = 0.95, 10_000

Interval = tuple[float, float]


def mean_interval(values: ArrayLike) -> Interval | None:
    """95% percentile bootstrap interval of the mean; None for fewer than two values.

    The same values give the same interval at every call.
    """
    limits = mean_intervals(np.asarray(values, np.float64)[:, None])
    return None if limits is None else (float(limits[0][0]), float(limits[1][0]))


def mean_intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The same for each column of values (n, k): lower and upper limits (k); None for fewer than two rows."""
    return _limits((values,), np.mean) if len(values) > 1 else None


def probability_of_improvement(values: ArrayLike, over: ArrayLike) -> float:
    """The probability that one of `values` is larger than one of `over`, where equal ones count half.

    It is U / (n·m), with the statistic U of Mann and Whitney (Agarwal et al. 2021, sec. 4.3).
    """
    ours, theirs = np.asarray(values, np.float64), np.asarray(over, np.float64)
    return float(mannwhitneyu(ours, theirs).statistic / (len(ours) * len(theirs)))


def interquartile_mean(games: Mapping[str, Sequence[float]]) -> float:
    """The mean of the middle half of all runs of all games (Agarwal et al. 2021)."""
    return float(trim_mean(np.concatenate([np.asarray(runs) for runs in games.values()]), 0.25))


def interquartile_mean_interval(games: Mapping[str, Sequence[float]]) -> Interval | None:
    """95% bootstrap interval, by resampling the runs of each game; None if every game has one run only."""
    several = [np.asarray(runs) for runs in games.values() if len(runs) > 1]
    single = np.concatenate([np.asarray(runs, np.float64) for runs in games.values() if len(runs) == 1] or [[]])

    def pooled(*resampled: np.ndarray, axis: int) -> np.ndarray:
        alone = np.broadcast_to(single, (*resampled[0].shape[:-1], len(single)))
        return trim_mean(np.concatenate((*resampled, alone), axis=-1), 0.25, axis=axis)

    if not several:
        return None
    low, high = _limits(several, pooled)
    return float(low), float(high)


def _limits(samples: Sequence[np.ndarray], statistic: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    found = bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        batch=500,
        rng=np.random.default_rng(0),
    )
    return found.confidence_interval.low, found.confidence_interval.high
