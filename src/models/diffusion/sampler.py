"""From noise to the next frame: Euler or Heun steps along a schedule of noise levels (Karras et al. 2022, alg. 2)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.diffusion.denoiser import Denoiser, Randn


@dataclass(frozen=True)
class DiffusionSamplerConfig:
    """Schedule (σ from `sigma_max` to `sigma_min`, bent by `rho`), solver order (1 Euler, 2 Heun) and churn.

    `s_cond` is the σ of fresh noise that the history gets at each step.
    """

    num_steps_denoising: int = 3
    sigma_min: float = 2e-3
    sigma_max: float = 5.0
    rho: int = 7
    order: int = 1
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0
    s_cond: float = 0.0


def build_sigmas(config: DiffusionSamplerConfig, device: torch.device) -> Tensor:
    """Noise levels of the sampler, from large to small and then zero (Karras et al. 2022, eq. 5).

    Returns float32 of shape (num_steps_denoising + 1,).
    """
    ramp = torch.linspace(0, 1, config.num_steps_denoising, device=device)
    largest, smallest = config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho)
    sigmas = (largest + ramp * (smallest - largest)) ** config.rho
    return torch.cat((sigmas, sigmas.new_zeros(1)))


class DiffusionSampler:
    """Draws next frames from a denoiser."""

    def __init__(self, denoiser: Denoiser, config: DiffusionSamplerConfig) -> None:
        self.denoiser = denoiser
        self.config = config
        self.sigmas = build_sigmas(config, next(denoiser.parameters()).device)
        # The same numbers on the host, to branch on without waiting for the device.
        self._levels = build_sigmas(config, torch.device("cpu")).tolist()

    @torch.no_grad()
    def sample(self, obs: Tensor, act: Tensor | None, randn: Randn = torch.randn) -> tuple[Tensor, list[Tensor]]:
        """Draw the frame that follows `obs` (b, n, c, h, w) in [-1, 1] under `act`, as `Denoiser.denoise` takes them.

        Returns the frame (b, c, h, w), and the trajectory from noise to it, num_steps_denoising + 1 such frames.
        """
        b, _, c, h, w = obs.shape
        config = self.config
        sigma_cond = torch.full((b,), config.s_cond, device=obs.device) if config.s_cond > 0 else None
        x = randn(b, c, h, w, device=obs.device)
        trajectory = [x]
        for index, level in enumerate(self._levels[:-1]):
            if sigma_cond is not None:
                obs = obs + config.s_cond * randn(b, obs[0, :, :, 0, 0].numel(), h, w, device=obs.device).view_as(obs)
            sigma, next_sigma = self.sigmas[index], self.sigmas[index + 1]
            gamma = 0.0
            if config.s_churn > 0 and config.s_tmin <= level <= config.s_tmax:
                gamma = min(config.s_churn / config.num_steps_denoising, math.sqrt(2) - 1)
            sigma_hat = sigma * (1 + gamma)
            if gamma > 0:
                x = x + config.s_noise * randn(b, c, h, w, device=obs.device) * (sigma_hat**2 - sigma**2).sqrt()
            slope = (x - self.denoiser.denoise(x, sigma.expand(b), obs, act, sigma_cond)) / sigma_hat
            euler = x + slope * (next_sigma - sigma_hat)
            if config.order == 2 and self._levels[index + 1] > 0:
                denoised = self.denoiser.denoise(euler, next_sigma.expand(b), obs, act, sigma_cond)
                slope = (slope + (euler - denoised) / next_sigma) / 2
                x = x + slope * (next_sigma - sigma_hat)
            else:
                x = euler
            trajectory.append(x)
        return x, trajectory
