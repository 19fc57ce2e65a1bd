"""Parameterisation: what the network reads, what it predicts, and how a clean frame follows from its output."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Conditioners:
    """Scalings for a batch of noise levels: each (b, 1, 1, 1), `c_noise` (b).

    The network F reads `c_in · noisy` and `c_noise`; the clean frame is `c_skip · noisy + c_out · F` (Karras et al.
    2022, eq. 7). Networks that predict the noise, or a mixture of noise and frame, differ in these numbers only.
    """

    c_in: Tensor
    c_out: Tensor
    c_skip: Tensor
    c_noise: Tensor

    def network_input(self, noisy: Tensor) -> Tensor:
        """What the network reads in place of noisy frames (b, c, h, w)."""
        return noisy * self.c_in

    def target(self, clean: Tensor, noisy: Tensor) -> Tensor:
        """The network output (b, c, h, w) that leads from `noisy` to `clean` exactly."""
        return (clean - self.c_skip * noisy) / self.c_out

    def denoised(self, noisy: Tensor, output: Tensor) -> Tensor:
        """The clean frame (b, c, h, w) that a network output stands for, before it is quantised."""
        return self.c_skip * noisy + self.c_out * output


class Parameterisation(Protocol):
    """What a denoiser needs to know to use a network."""

    def conditioners(self, sigma: Tensor) -> Conditioners:
        """Scalings for noise levels (b)."""
        ...

    def history_input(self, obs: Tensor) -> Tensor:
        """What the network reads in place of the history's frames."""
        ...

    def c_noise_cond(self, sigma_cond: Tensor) -> Tensor:
        """What the network reads in place of the history's noise levels (b)."""
        ...


@dataclass(frozen=True)
class EDM:
    """Preconditioning of Karras et al. 2022, table 1, where offset noise adds to the variance.

    `sigma_data` is the standard deviation of the data, `sigma_offset_noise` that of the noise which is constant over
    each channel of a frame. Network inputs and targets have unit variance at every noise level.
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
