"""Parameterisation: the network's inputs, its prediction target, and the clean frame computed from its output."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


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
    """The scalings with which a denoiser uses a network."""

    def conditioners(self, sigma: Tensor) -> Conditioners:
        """Scalings for noise levels (b)."""
        ...

    def history_input(self, obs: Tensor) -> Tensor:
        """The network's input for the frames of the history."""
        ...

    def c_noise_cond(self, sigma_cond: Tensor) -> Tensor:
        """The network's input for the noise levels of the history (b)."""
        ...


@dataclass(frozen=True)
class EDM:
    """Preconditioning of Karras et al. 2022, table 1, with the variance of the offset noise added to σ².

    `sigma_data` and `sigma_offset_noise` are the standard deviations of the data and of the offset noise, which is
    constant over each channel of a frame. Network inputs and targets have unit variance at every noise level.
    """

    sigma_data: float
    sigma_offset_noise: float

    def conditioners(self, sigma: Tensor) -> Conditioners:
        variance, data_variance = sigma**2 + self.sigma_offset_noise**2, self.sigma_data**2
        c_in = (variance + data_variance).rsqrt()
        c_skip = data_variance / (data_variance + variance)
        c_out = variance.sqrt() * c_skip.sqrt()
        c_noise = variance.sqrt().log() / 4
        return Conditioners(*[scale[:, None, None, None] for scale in (c_in, c_out, c_skip)], c_noise)

    def history_input(self, obs: Tensor) -> Tensor:
        return obs / self.sigma_data

    def c_noise_cond(self, sigma_cond: Tensor) -> Tensor:
        return sigma_cond.log() / 4
