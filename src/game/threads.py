"""How many threads of the processor the networks get while somebody plays."""

import os
import time

import torch

CALLS = 12
SHAPE = (1, 64, 48, 48)
"""Of the activations in the measurement: about those of a small world model."""


def choose_play_threads(setting: int | str) -> int:
    """The number that `--threads` says; for `auto`, the fastest in a measurement of a fraction of a second.

    Where other processes are busy, more threads are slower: they wait for each other. `OMP_NUM_THREADS` decides if it
    is set.
    """
    most = torch.get_num_threads()
    if isinstance(setting, int):
        return setting
    if most == 1 or "OMP_NUM_THREADS" in os.environ:
        return most
    candidates = sorted({1, max(1, most // 2), most})
    chosen = min(candidates, key=seconds_with)
    torch.set_num_threads(most)
    return chosen


@torch.no_grad()
def seconds_with(threads: int) -> float:
    """How long a few convolutions take with that many threads: the median of their times."""
    torch.set_num_threads(threads)
    frames, kernel, times = torch.zeros(SHAPE), torch.zeros(SHAPE[1], SHAPE[1], 3, 3), []
    for _ in range(CALLS):
        begun = time.perf_counter()
        torch.nn.functional.conv2d(frames, kernel, padding=1)
        times.append(time.perf_counter() - begun)
    return sorted(times)[CALLS // 2]
