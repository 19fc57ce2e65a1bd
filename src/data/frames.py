"""Conversion of frames between uint8, as they are stored, and [-1, 1], as networks take them."""

import torch
from torch import Tensor


def to_unit_range(frames: Tensor) -> Tensor:
    """Convert uint8 frames to float32 in [-1, 1]; floating point frames are returned unchanged."""
    return frames if frames.is_floating_point() else frames.float().div_(255).mul_(2).sub_(1)


def to_bytes(frames: Tensor) -> Tensor:
    """Convert frames in [-1, 1] to the nearest uint8; uint8 frames are returned unchanged.

    `to_bytes(to_unit_range(frames))` equals `frames` for uint8 frames.
    """
    if frames.dtype == torch.uint8:
        return frames
    return frames.clamp(-1, 1).add(1).div(2).mul(255).round().byte()
