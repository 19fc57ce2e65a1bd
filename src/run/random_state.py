"""Every random generator of a process: seeded together, saved and restored together."""

from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed PyTorch on all devices. NumPy generators are objects of their owners, made by `numpy_generator`."""
    torch.manual_seed(seed)


def numpy_generator(*key: int) -> np.random.Generator:
    """An independent generator for each key (run seed, rank, purpose, …)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of PyTorch's generators on the CPU and on `device`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore what `random_state` returned; a device that it does not know (the run has moved) keeps its seed."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
