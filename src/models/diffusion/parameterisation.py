"""Parameterisation: the network's inputs, its prediction target, and the clean frame computed from its output."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from models.diffusion.noise import Randn, draw_offset


@dataclass(frozen=True)
class Conditioners:
    """Scalings for a batch of noise levels: (b, 1, 1, 1) each, except `c_noise` (b).

    The inputs of the network F are `c_in · noisy` and `c_noise`; the clean frame is `c_skip · noisy + c_out · F`
    (Karras et al. 2022, eq. 7). Networks that predict the noise, or a mixture of noise and frame, have the same form
    with other scalings.
    """

    c_in: Tensor
    c_out: Tensor
    c_skip: Tensor
    c_noise: Tensor

    def network_input(self, noisy: Tensor) -> Tensor:
        """The network's input for noisy frames (b, c, h, w)."""
        return noisy * self.c_in

    def target(self, clean: Tensor, noisy: Tensor) -> Tensor:
        """The output (b, c, h, w) for which `denoised` returns exactly `clean`."""
        return (clean - self.c_skip * noisy) / self.c_out

    def denoised(self, noisy: Tensor, output: Tensor) -> Tensor:
        """The clean frame (b, c, h, w) for a network output, before quantisation."""
        return self.c_skip * noisy + self.c_out * output


class Parameterisation(Protocol):
    """How a denoiser uses a network, and how noise is added to frames for it. Noise levels are σ everywhere."""

    quantises: bool
    """Whether every clean frame is quantised to 256 levels; otherwise only the sample at the end is."""

    def conditioners(self, sigma: Tensor) -> Conditioners:
        """Scalings for noise levels (b)."""
        ...

    def history_input(self, obs: Tensor) -> Tensor:
        """The network's input for the frames of the history."""
        ...

    def c_noise_cond(self, sigma_cond: Tensor) -> Tensor:
        """The network's input for the noise levels of the history (b)."""
        ...

    def add_noise(self, frames: Tensor, sigma: Tensor, randn: Randn) -> Tensor:
        """Noisy frames of levels `sigma` (b), from frames (b, c, h, w). The offset is drawn first, then the noise."""
        ...

    def scale(self, sigma: float) -> float:
        """The number that a noisy frame is multiplied by where it is shown, and where sampling starts from noise."""
        ...


@dataclass(frozen=True)
class EDM:
    """Preconditioning of Karras et al. 2022, table 1, with the variance of the offset noise added to σ².

    `sigma_data` and `sigma_offset_noise` are the standard deviations of the data and of the offset noise, which is
    constant over each channel of a frame. Network inputs and targets have unit variance at every noise level.
    """

    sigma_data: float
    sigma_offset_noise: float
    quantises: bool = True

    def conditioners(self, sigma: Tensor) -> Conditioners:
        variance, data_variance = sigma**2 + self.sigma_offset_noise**2, self.sigma_data**2
        c_in = (variance + data_variance).rsqrt()
        c_skip = data_variance / (data_variance + variance)
        c_out = variance.sqrt() * c_skip.sqrt()
        return Conditioners(*[_per_frame(scale) for scale in (c_in, c_out, c_skip)], log_level(variance.sqrt()))

    def history_input(self, obs: Tensor) -> Tensor:
        return obs / self.sigma_data

    def c_noise_cond(self, sigma_cond: Tensor) -> Tensor:
        return log_level(sigma_cond)

    def add_noise(self, frames: Tensor, sigma: Tensor, randn: Randn) -> Tensor:
        """The offset noise is the same at every level."""
        offset = draw_offset(frames, self.sigma_offset_noise, randn)
        return frames + offset + _per_frame(sigma) * randn(*frames.shape, device=frames.device)

    def scale(self, sigma: float) -> float:
        """One: as published, sampling starts from unit noise."""
        return 1.0


def log_level(sigma: Tensor) -> Tensor:
    """The input for noise levels of networks without numbered steps: ln(σ) / 4 (Karras et al. 2022, table 1)."""
    return sigma.log() / 4


@dataclass(frozen=True)
class VariancePreserving:
    """Networks that predict the noise ε (Ho et al. 2020), or v = sqrt(ᾱ)·ε − sqrt(1 − ᾱ)·x_0 (Salimans and Ho 2022).

    Their input is the noisy frame in the form `sqrt(ᾱ)·x_0 + sqrt(1 − ᾱ)·ε`, with ᾱ = 1/(1 + σ²). `noise_input` maps
    levels (b) to the network's input for them. Offset noise is part of ε: it grows with the level.
    """

    predicts: Literal["eps", "v"]
    sigma_offset_noise: float
    noise_input: Callable[[Tensor], Tensor] = log_level
    quantises: bool = False

    def conditioners(self, sigma: Tensor) -> Conditioners:
        kept = (1 + sigma**2).rsqrt()
        c_out, c_skip = (-sigma, torch.ones_like(sigma)) if self.predicts == "eps" else (-sigma * kept, kept**2)
        return Conditioners(*[_per_frame(scale) for scale in (kept, c_out, c_skip)], self.noise_input(sigma))

    def history_input(self, obs: Tensor) -> Tensor:
        return obs

    def c_noise_cond(self, sigma_cond: Tensor) -> Tensor:
        return log_level(sigma_cond)

    def add_noise(self, frames: Tensor, sigma: Tensor, randn: Randn) -> Tensor:
        offset = draw_offset(frames, self.sigma_offset_noise, randn)
        return frames + _per_frame(sigma) * (randn(*frames.shape, device=frames.device) + offset)

    def scale(self, sigma: float) -> float:
        """The square root of ᾱ: sampling starts from unit noise in the form of the network's input."""
        return (1 + sigma**2) ** -0.5


def _per_frame(values: Tensor) -> Tensor:
    """(b) to (b, 1, 1, 1)."""
    return values[:, None, None, None]
