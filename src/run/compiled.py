"""Networks compiled in place, where that pays and works."""

import contextlib
import sys

import torch
from torch import nn

from errors import UserError


def compile_networks(networks: list[nn.Module], choice: bool | str, device: torch.device, is_first: bool) -> bool:
    """Let networks compile when they are first called, with static shapes; returns whether they will.

    `choice` as in `training.compile`: `auto` is yes on CUDA and on CPUs. Parameters keep their names, and the
    kernels are kept on disk for later runs. Where nothing can be compiled, the run goes on after one line of warning.
    """
    if choice not in (True, False, "auto"):
        raise UserError(f"training.compile={choice} is unknown: use auto, true or false.")
    if not choice or (choice == "auto" and device.type not in ("cuda", "cpu")):
        return False
    if (reason := _why_not(device)) is not None:
        if is_first:
            print(f"warning: networks are not compiled, and slower for it: {reason}", file=sys.stderr, flush=True)
        return False
    if is_first:
        print("The networks compile at their first use: a minute or two, seconds when they did so before.", flush=True)
    for network in networks:
        network.compile(dynamic=False)
    return True


def uncompiled() -> contextlib.AbstractContextManager:
    """For work in batches of other sizes than in training, each of which would be compiled anew."""
    return torch.compiler.set_stance("force_eager")


def _why_not(device: torch.device) -> str | None:
    """Compile something very small; None where that works, else what went wrong, on one line."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    # Whatever goes wrong in a compiler, the networks can do without.
    except Exception as error:
        return next(line.strip() for line in str(error).splitlines() if line.strip())
    return None
