"""Times of the same work in both ways."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ways import Bench, Way
from run.measure import BytesMoved, begin_peak, read_peak_gb, time_once

Work = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """Seconds of one run in both ways; where they are counted, its operations and the bytes of all its tensors.

    `frames`: how many frames one run makes, where it makes any.
    """

    name: str
    plain_seconds: float
    default_seconds: float
    plain_peak_gb: float | None
    default_peak_gb: float | None
    tflop: float = 0.0
    eager_gb_moved: float = 0.0
    frames: int = 0

    @property
    def ratio(self) -> float:
        return self.plain_seconds / self.default_seconds


def compare(
    name: str,
    bench: Bench,
    make: Callable[[Way], Work],
    repeats: int,
    *,
    frames: int = 0,
    counts_operations: bool = True,
) -> Result:
    """Medians of runs in turn, after one of each that is not counted; `make` gives the work of a way."""
    plain, default = make(bench.plain), make(bench.default)
    tflop, moved = _count_operations(plain, default) if counts_operations else (0.0, 0.0)
    plain()
    default()
    plain_seconds, default_seconds, plain_peaks, default_peaks = [], [], [], []
    for _ in range(repeats):
        for work, seconds, peaks in ((plain, plain_seconds, plain_peaks), (default, default_seconds, default_peaks)):
            begin_peak(bench.device)
            seconds.append(time_once(work, bench.device))
            peaks.append(read_peak_gb(bench.device))
    medians = statistics.median(plain_seconds), statistics.median(default_seconds)
    return Result(name, *medians, _largest(plain_peaks), _largest(default_peaks), tflop, moved, frames)


def steps_per_second(work: Work, num_steps: int, count: int, repeats: int) -> float:
    """The median of rounds of `count` calls, each of which makes `num_steps`, after one that is not counted."""
    rounds = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        for _ in range(count):
            work()
        rounds.append(count * num_steps / (time.perf_counter() - started))
    return statistics.median(rounds[1:])


def _count_operations(plain: Work, default: Work) -> tuple[float, float]:
    """TFLOP of one run, and the gigabytes that the default way would move if nothing were fused."""
    with FlopCounterMode(display=False) as flops:
        plain()
    with torch.compiler.set_stance("force_eager"), BytesMoved() as counter:
        default()
    return flops.get_total_flops() / 1e12, counter.gigabytes


def _largest(peaks: list[float | None]) -> float | None:
    return None if None in peaks else max(peaks)
