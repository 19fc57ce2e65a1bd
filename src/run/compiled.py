"""Compilation of networks in place, on devices where it is supported and makes them faster."""

import contextlib
import sys

import torch
from torch import nn

from errors import UserError


def compile_networks(networks: list[nn.Module], choice: bool | str, device: torch.device, is_first: bool) -> bool:
    """Compile networks at their first call, with static shapes; returns whether they will be compiled.

    `choice` is the value of `training.compile`; `auto` means true on CUDA and on CPUs. Parameters keep their names, and
    PyTorch caches the kernels on disk for later runs. If compilation does not work, the run continues without it after
    one line of warning.
    """
    if choice not in (True, False, "auto"):
        raise UserError(f"training.compile={choice} is unknown: use auto, true or false.")
    if not networks or not choice or (choice == "auto" and device.type not in ("cuda", "cpu")):
        return False
    if (reason := _why_not(device)) is not None:
        if is_first:
            print(f"warning: networks are not compiled, and therefore slower: {reason}", file=sys.stderr, flush=True)
        return False
    if is_first:
        print("Networks compile at their first use: a minute or two, or seconds if that was done before.", flush=True)
    for network in networks:
        network.compile(dynamic=False)
    return True


def uncompiled() -> contextlib.AbstractContextManager:
    """A context without compilation, for batches of other sizes than in training: each size would compile again."""
    return torch.compiler.set_stance("force_eager")


def _why_not(device: torch.device) -> str | None:
    """Compile a very small function; returns None if that works, or else the error on one line."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    # Any error of the compiler: networks work without it.
    except Exception as error:
        return next(line.strip() for line in str(error).splitlines() if line.strip())
    return None
