"""Seeding, saving and restoring of the random generators of a process."""

from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed PyTorch on all devices. NumPy generators are made by `numpy_generator`, and belong to their users."""
    torch.manual_seed(seed)


def numpy_generator(*key: int) -> np.random.Generator:
    """Make a generator; different keys (run seed, rank, purpose, …) give independent generators."""
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
    """Restore the result of `random_state`; a device whose state is missing (the run was moved) is left as it is."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
