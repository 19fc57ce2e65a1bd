"""Frames: bytes where they are stored, numbers in [-1, 1] where a network reads them."""

import torch
from torch import Tensor


def to_unit_range(frames: Tensor) -> Tensor:
    """uint8 frames as float32 in [-1, 1]; floating point frames pass unchanged."""
    return frames if frames.is_floating_point() else frames.float().div_(255).mul_(2).sub_(1)


def to_bytes(frames: Tensor) -> Tensor:
    """Frames in [-1, 1] as the nearest uint8; uint8 frames pass unchanged.

    Inverse of `to_unit_range`: frames that were quantised already come back exactly.
    """
    if frames.dtype == torch.uint8:
        return frames
    return frames.clamp(-1, 1).add(1).div(2).mul(255).round().byte()
