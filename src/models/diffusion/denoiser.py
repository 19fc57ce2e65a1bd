"""The diffusion model of the next frame, with the preconditioning of EDM (Karras et al. 2022) and offset noise."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data import Batch
from models.diffusion.inner_model import InnerModel, InnerModelConfig
from models.losses import Metrics, masked_mean

Randn = Callable[..., Tensor]
"""`torch.randn`, or something in its place that replays recorded draws."""


@dataclass(frozen=True)
class DenoiserConfig:
    """The network, the standard deviation of the data, and that of the noise that is constant over a frame."""

    inner_model: InnerModelConfig
    sigma_data: float
    sigma_offset_noise: float


@dataclass(frozen=True)
class SigmaDistributionConfig:
    """Noise in training: ln σ ~ N(loc, scale), clipped to [sigma_min, sigma_max] (Karras et al. 2022, tab. 1)."""

    loc: float = -0.4
    scale: float = 1.2
    sigma_min: float = 2e-3
    sigma_max: float = 20.0


@dataclass(frozen=True)
class Conditioners:
    """Scalings of eq. 7 in Karras et al. 2022, for a batch of noise levels: each (b, 1, 1, 1), `c_noise` (b)."""

    c_in: Tensor
    c_out: Tensor
    c_skip: Tensor
    c_noise: Tensor


class Denoiser(nn.Module):
    """Predicts a clean frame from a noisy one, the n frames before it, and the n actions taken at them."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.sigma_distribution = SigmaDistributionConfig()
        self.inner_model = InnerModel(config.inner_model)

    @property
    def num_steps_conditioning(self) -> int:
        return self.config.inner_model.num_steps_conditioning

    def forward(self, batch: Batch, randn: Randn = torch.randn) -> tuple[Tensor, Metrics]:
        """Loss on segments of n + 1 + k frames: k + 1 predictions, each with the former ones in its history."""
        n = self.num_steps_conditioning
        frames = list(batch.frames.unbind(1))
        losses = []
        for step in range(len(frames) - n):
            obs, act = torch.cat(frames[step : step + n], dim=1), batch.act[:, step : step + n]
            next_obs, mask = frames[step + n], batch.mask_padding[:, step + n]
            sigma = self._draw_sigma(len(next_obs), next_obs.device, randn)
            noisy_next_obs = self._add_noise(next_obs, sigma, randn)
            scales = self.conditioners(sigma)
            model_output = self._model_output(noisy_next_obs, obs, act, scales)
            target = (next_obs - scales.c_skip * noisy_next_obs) / scales.c_out
            losses.append(masked_mean((model_output - target).pow(2).mean(dim=(1, 2, 3)), mask))
            with torch.no_grad():
                frames[step + n] = _quantise(scales.c_skip * noisy_next_obs + scales.c_out * model_output)
        loss = torch.stack(losses).mean()
        return loss, {"loss_denoising": loss.detach()}

    def denoise(self, noisy_next_obs: Tensor, sigma: Tensor, obs: Tensor, act: Tensor) -> Tensor:
        """The clean frame, quantised to bytes, in [-1, 1].

        `noisy_next_obs` (b, c, h, w), `sigma` (b), `obs` (b, n, c, h, w) in [-1, 1], `act` int64 (b, n).
        """
        scales = self.conditioners(sigma)
        model_output = self._model_output(noisy_next_obs, obs.flatten(1, 2), act, scales)
        return _quantise(scales.c_skip * noisy_next_obs + scales.c_out * model_output)

    def conditioners(self, sigma: Tensor) -> Conditioners:
        """Scalings for noise levels (b), where offset noise adds to the variance."""
        variance, data_variance = sigma**2 + self.config.sigma_offset_noise**2, self.config.sigma_data**2
        c_in = (variance + data_variance).rsqrt()
        c_skip = data_variance / (data_variance + variance)
        c_out = variance.sqrt() * c_skip.sqrt()
        c_noise = variance.sqrt().log() / 4
        return Conditioners(*[scale[:, None, None, None] for scale in (c_in, c_out, c_skip)], c_noise)

    def _model_output(self, noisy_next_obs: Tensor, obs: Tensor, act: Tensor, scales: Conditioners) -> Tensor:
        rescaled = obs / self.config.sigma_data
        return self.inner_model(noisy_next_obs * scales.c_in, scales.c_noise, rescaled, act).float()

    def _draw_sigma(self, batch_size: int, device: torch.device, randn: Randn) -> Tensor:
        levels = self.sigma_distribution
        log_sigma = levels.loc + levels.scale * randn(batch_size, device=device)
        return log_sigma.exp().clip(levels.sigma_min, levels.sigma_max)

    def _add_noise(self, frames: Tensor, sigma: Tensor, randn: Randn) -> Tensor:
        b, c = frames.shape[:2]
        offset = self.config.sigma_offset_noise * randn(b, c, 1, 1, device=frames.device)
        return frames + offset + sigma[:, None, None, None] * randn(*frames.shape, device=frames.device)


def _quantise(frames: Tensor) -> Tensor:
    """Clamp to [-1, 1] and truncate to one of 256 levels, as bytes on disk would."""
    return frames.clamp(-1, 1).add(1).div(2).mul(255).floor().div(255).mul(2).sub(1)
