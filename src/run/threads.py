"""How many threads PyTorch uses in this process."""

import os

import psutil
import torch

from errors import UserError

SECONDS = 0.3
"""How long the processors are watched."""


def choose_threads(setting: int | str) -> int:
    """The number for a value of `common.threads`: a number, or `auto`, for as many as there are idle processors.

    Processors that other processes keep busy are left to them: threads of several processes on one processor wait for
    each other most of the time. With `auto`, the environment variable `OMP_NUM_THREADS` decides if it is set, and
    PyTorch's own choice is the largest number.
    """
    if isinstance(setting, int):
        return setting
    if setting != "auto":
        raise UserError(f"common.threads={setting} is unknown: use auto or a number.")
    most = torch.get_num_threads()
    if most == 1 or "OMP_NUM_THREADS" in os.environ:
        return most
    return max(1, min(most, round(most * _idle_share())))


def _idle_share() -> float:
    """The share of the processors that this process may use which is idle now."""
    busy = psutil.cpu_percent(SECONDS, percpu=True)
    # Not every system can bind a process to some of its processors.
    ours = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else range(len(busy))
    shares = [1 - busy[index] / 100 for index in ours if index < len(busy)]
    return sum(shares) / len(shares) if shares else 1.0
