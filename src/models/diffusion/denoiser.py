"""The diffusion model of the next frame: a network, its parameterisation, and the noise it is trained with."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import Batch
from models.diffusion.inner_model import InnerModel, InnerModelConfig
from models.diffusion.noise import Randn, SigmaDistributionConfig, add_noise
from models.diffusion.parameterisation import EDM, Conditioners, Parameterisation
from models.losses import Metrics, masked_mean


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


class Denoiser(nn.Module):
    """Predicts a clean frame from a noisy one, the n frames before it, and the n actions taken at them.

    An upsampler predicts a large frame from a noisy one, the n large frames before it, and its small version.
    """

    def __init__(self, config: DenoiserConfig, sigma_distribution: SigmaDistributionConfig | None = None) -> None:
        """`sigma_distribution`: the noise levels of training, by default those of `SigmaDistributionConfig()`."""
        super().__init__()
        self.config = config
        self.sigma_distribution = sigma_distribution or SigmaDistributionConfig()
        self.parameterisation: Parameterisation = EDM(config.sigma_data, config.sigma_offset_noise)
        self.inner_model = InnerModel(config.inner_model, config.noise_previous_obs is not None)

    @property
    def num_steps_conditioning(self) -> int:
        return self.config.inner_model.num_steps_conditioning

    @property
    def network_to_compile(self) -> nn.Module:
        """The part that most of the work is in."""
        return self.inner_model

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
                obs, sigma_cond = self._add_noise(obs, randn)
            if upsamples:
                obs = torch.cat((obs, self.enlarge(batch.frames[:, step + n])), dim=1)
            noisy_next_obs, sigma = self._add_noise(next_obs, randn)
            scales = self.parameterisation.conditioners(sigma)
            output = self.network_output(noisy_next_obs, scales, obs, act, sigma_cond)
            errors = (output - scales.target(next_obs, noisy_next_obs)).pow(2)
            losses.append(masked_mean(errors.mean(dim=(1, 2, 3)), mask))
            with torch.no_grad():
                frames[step + n] = _quantise(scales.denoised(noisy_next_obs, output))
        loss = torch.stack(losses).mean()
        return loss, {"loss_denoising": loss.detach()}

    def denoise(
        self, noisy_next_obs: Tensor, sigma: Tensor, obs: Tensor, act: Tensor | None, sigma_cond: Tensor | None = None
    ) -> Tensor:
        """The clean frame, quantised to bytes, in [-1, 1].

        `noisy_next_obs` (b, c, h, w), `sigma` (b), `obs` (b, n, c, h, w) in [-1, 1] (an upsampler's has the enlarged
        frame after the others), `act` as `InnerModel` takes it, `sigma_cond` (b): noise in `obs`.
        """
        scales = self.parameterisation.conditioners(sigma)
        output = self.network_output(noisy_next_obs, scales, obs.flatten(1, 2), act, sigma_cond)
        return _quantise(scales.denoised(noisy_next_obs, output))

    def network_output(
        self,
        noisy_next_obs: Tensor,
        scales: Conditioners,
        obs: Tensor,
        act: Tensor | None,
        sigma_cond: Tensor | None = None,
    ) -> Tensor:
        """What the network says, float32 (b, c, h, w), as `scales` (those of the noise levels) read it.

        `noisy_next_obs` (b, c, h, w), `obs` (b, n·c, h, w) in [-1, 1], the others as in `denoise`.
        """
        c_noise_cond = None if sigma_cond is None else self.parameterisation.c_noise_cond(sigma_cond)
        history = self.parameterisation.history_input(obs)
        noisy = scales.network_input(noisy_next_obs)
        return self.inner_model(noisy, scales.c_noise, history, act, c_noise_cond).float()

    def enlarge(self, frames: Tensor) -> Tensor:
        """Small frames (b, c, h, w) in [-1, 1] in the size that an upsampler works in, by bicubic interpolation."""
        return F.interpolate(frames, scale_factor=self.config.upsampling_factor, mode="bicubic")

    def _add_noise(self, frames: Tensor, randn: Randn) -> tuple[Tensor, Tensor]:
        """Frames (b, c, h, w) with noise of levels that are drawn first, and these levels (b)."""
        sigma = self.sigma_distribution.draw(len(frames), frames.device, randn)
        return add_noise(frames, sigma, self.config.sigma_offset_noise, randn), sigma


def _quantise(frames: Tensor) -> Tensor:
    """Clamp to [-1, 1] and truncate to one of 256 levels, as bytes on disk would."""
    return frames.clamp(-1, 1).add(1).div(2).mul(255).floor().div(255).mul(2).sub(1)
