"""Metrics of imagined frames and values against real ones: pure functions of tensors and arrays."""

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor
from torch.nn.functional import max_pool2d
from torchmetrics.functional.image import structural_similarity_index_measure

NEGLIGIBLE = 0.05
"""A return is known, although its recording was cut off, where the first missing reward would weigh at most this."""
SMALL_FRAME = 32


def frame_errors(imagined: Tensor, real: Tensor) -> Tensor:
    """Mean squared error of each frame, for pixels in [0, 1]; uint8 (…, c, h, w) to float32 (…)."""
    return _squares(imagined, real).mean(dim=(-3, -2, -1))


def moving_pixels(frames: Tensor) -> Tensor:
    """The pixels that differ from the frame before, and their neighbours (dilated by one pixel, 3×3).

    uint8 (b, t, c, h, w) to bool (b, t - 1, h, w).
    """
    differs = (frames[:, 1:] != frames[:, :-1]).any(dim=2)
    return max_pool2d(differs.float(), 3, stride=1, padding=1).bool()


def moving_errors(imagined: Tensor, real: Tensor, moving: Tensor) -> Tensor:
    """Mean squared error of each frame on its moving pixels, as `frame_errors`; NaN where nothing moves.

    `moving` bool (…, h, w).
    """
    squares, count = _squares(imagined, real).mean(dim=-3), moving.sum(dim=(-2, -1))
    return (squares * moving).sum(dim=(-2, -1)) / torch.where(count > 0, count, torch.nan)


def similarities(imagined: Tensor, real: Tensor) -> Tensor:
    """Structural similarity (SSIM, Wang et al. 2004) of each frame; uint8 (…, c, h, w) to float32 (…).

    The window is Gaussian: 11×11 pixels with σ = 1.5, as published, or 7×7 with σ = 0.75 for frames with a side of less
    than 32 pixels. Channels are averaged.
    """
    sigma = 1.5 if min(real.shape[-2:]) >= SMALL_FRAME else 0.75
    ours, theirs = [
        frames.flatten(0, -4).float().div(255).contiguous(memory_format=torch.channels_last)
        for frames in (imagined, real)
    ]
    found = structural_similarity_index_measure(ours, theirs, sigma=sigma, data_range=1.0, reduction="none")
    return found.view(real.shape[:-3])


def psnr(error: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in decibels of a mean squared error of pixels in [0, 1]; infinite without error."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(error)


def returns_to_go(rew: np.ndarray, ends: bool, gamma: float) -> np.ndarray:
    """Discounted returns from each step of an episode on, of the signs of its rewards (t).

    `ends`: whether the episode ends after its last step. If it was cut off there, returns are NaN where the missing
    rewards could matter.
    """
    signs = np.sign(np.asarray(rew, np.float64))
    returns = lfilter([1.0], [1.0, -gamma], signs[::-1])[::-1]
    weights = gamma ** np.arange(len(signs), 0, -1)
    return returns if ends else np.where(weights <= NEGLIGIBLE, returns, np.nan)


def _squares(imagined: Tensor, real: Tensor) -> Tensor:
    return (imagined.float() - real.float()).div(255).square()
