"""The diffusion model of the next frame, with the preconditioning of EDM (Karras et al. 2022) and offset noise."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import Batch
from models.diffusion.inner_model import InnerModel, InnerModelConfig
from models.losses import Metrics, masked_mean

Randn = Callable[..., Tensor]
"""`torch.randn`, or something in its place that replays recorded draws."""


@dataclass(frozen=True)
class DenoiserConfig:
    """The network, the standard deviation of the data, and that of the noise that is constant over a frame.

    `noise_previous_obs`: whether the history gets noise of its own in training, of which the network is told (None:
    the network is not made for that). `upsampling_factor`: how many times larger an upsampler's frames are than those
    it enlarges.
    """

    inner_model: InnerModelConfig
    sigma_data: float
    sigma_offset_noise: float
    noise_previous_obs: bool | None = None
    upsampling_factor: int | None = None

    def __post_init__(self) -> None:
        inner_model = replace(self.inner_model, is_upsampler=self.upsampling_factor is not None)
        object.__setattr__(self, "inner_model", inner_model)


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
    """Predicts a clean frame from a noisy one, the n frames before it, and the n actions taken at them.

    An upsampler predicts a large frame from a noisy one, the n large frames before it, and its small version.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.sigma_distribution = SigmaDistributionConfig()
        self.inner_model = InnerModel(config.inner_model, config.noise_previous_obs is not None)

    @property
    def num_steps_conditioning(self) -> int:
        return self.config.inner_model.num_steps_conditioning

    def forward(self, batch: Batch, randn: Randn = torch.randn) -> tuple[Tensor, Metrics]:
        """Loss on segments of n + 1 + k frames: k + 1 predictions, each with the former ones in its history."""
        n, upsamples = self.num_steps_conditioning, self.config.upsampling_factor is not None
        frames = list((batch.full_frames if upsamples else batch.frames).unbind(1))
        losses = []
        for step in range(len(frames) - n):
            obs, act = torch.cat(frames[step : step + n], dim=1), batch.act[:, step : step + n]
            next_obs, mask = frames[step + n], batch.mask_padding[:, step + n]
            sigma_cond = None
            if self.config.noise_previous_obs:
                sigma_cond = self._draw_sigma(len(next_obs), next_obs.device, randn)
                obs = self._add_noise(obs, sigma_cond, randn)
            if upsamples:
                obs = torch.cat((obs, self.enlarge(batch.frames[:, step + n])), dim=1)
            sigma = self._draw_sigma(len(next_obs), next_obs.device, randn)
            noisy_next_obs = self._add_noise(next_obs, sigma, randn)
            scales = self.conditioners(sigma)
            model_output = self._model_output(noisy_next_obs, obs, act, scales, sigma_cond)
            target = (next_obs - scales.c_skip * noisy_next_obs) / scales.c_out
            losses.append(masked_mean((model_output - target).pow(2).mean(dim=(1, 2, 3)), mask))
            with torch.no_grad():
                frames[step + n] = _quantise(scales.c_skip * noisy_next_obs + scales.c_out * model_output)
        loss = torch.stack(losses).mean()
        return loss, {"loss_denoising": loss.detach()}

    def denoise(
        self, noisy_next_obs: Tensor, sigma: Tensor, obs: Tensor, act: Tensor | None, sigma_cond: Tensor | None = None
    ) -> Tensor:
        """The clean frame, quantised to bytes, in [-1, 1].

        `noisy_next_obs` (b, c, h, w), `sigma` (b), `obs` (b, n, c, h, w) in [-1, 1] (an upsampler's has the enlarged
        frame behind the others), `act` int64 (b, n) or multi-hot (b, n, num_actions), `sigma_cond` (b): noise in `obs`.
        """
        scales = self.conditioners(sigma)
        model_output = self._model_output(noisy_next_obs, obs.flatten(1, 2), act, scales, sigma_cond)
        return _quantise(scales.c_skip * noisy_next_obs + scales.c_out * model_output)

    def enlarge(self, frames: Tensor) -> Tensor:
        """Small frames (b, c, h, w) in [-1, 1] in the size that an upsampler works in, by bicubic interpolation."""
        return F.interpolate(frames, scale_factor=self.config.upsampling_factor, mode="bicubic")

    def conditioners(self, sigma: Tensor) -> Conditioners:
        """Scalings for noise levels (b), where offset noise adds to the variance."""
        variance, data_variance = sigma**2 + self.config.sigma_offset_noise**2, self.config.sigma_data**2
        c_in = (variance + data_variance).rsqrt()
        c_skip = data_variance / (data_variance + variance)
        c_out = variance.sqrt() * c_skip.sqrt()
        c_noise = variance.sqrt().log() / 4
        return Conditioners(*[scale[:, None, None, None] for scale in (c_in, c_out, c_skip)], c_noise)

    def _model_output(
        self, noisy_next_obs: Tensor, obs: Tensor, act: Tensor | None, scales: Conditioners, sigma_cond: Tensor | None
    ) -> Tensor:
        rescaled = obs / self.config.sigma_data
        c_noise_cond = None if sigma_cond is None else sigma_cond.log() / 4
        return self.inner_model(noisy_next_obs * scales.c_in, scales.c_noise, rescaled, act, c_noise_cond).float()

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
