"""Pictures of any kind as frames of a data set."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from errors import UserError

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in the grey frames of the published kitchen data."""


def to_frames(pictures: np.ndarray, size: tuple[int, int], is_grey: bool) -> Tensor:
    """Frames, uint8 (t, c, *size), of pictures, uint8 (t, h, w), (t, h, w, c) or (t, c, h, w).

    As in the published kitchen data: bilinear, with half-pixel centres and without anti-aliasing. Colours are
    truncated to bytes; grey values are computed from the resized colours, and rounded.
    Raises UserError for colour frames of grey pictures.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(pictures))
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.size(-1) in (1, 3):
        pixels = pixels.permute(0, 3, 1, 2)
    if pixels.size(1) == 1 and not is_grey:
        raise UserError("The pictures are grey: leave out --color.")
    resized = pixels.float()
    if tuple(resized.shape[2:]) != size:
        resized = interpolate(resized, size=size, mode="bilinear", align_corners=False)
    if not is_grey or resized.size(1) == 1:
        return resized.clamp(0, 255).byte()
    luma = torch.tensor(LUMA).view(1, 3, 1, 1)
    return (resized * luma).sum(1, keepdim=True).round().clamp(0, 255).byte()
