"""The diffusion model of the next frame: a network, its parameterisation, and the noise it is trained with."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import Batch
from models.diffusion.inner_model import InnerModel, InnerModelConfig
from models.diffusion.noise import Randn, SigmaDistributionConfig, add_noise
from models.diffusion.parameterisation import EDM, Conditioners, Parameterisation
from models.losses import masked_mean
from models.metrics import Metrics
from ranges import Between, Positive, Weight


@dataclass(frozen=True)
class DenoiserConfig:
    """The network, and the standard deviations of the data and of the offset noise, which is constant over a channel.

    `noise_previous_obs`: whether noise is added to the history in training; the network is conditioned on its level
    (None: the network has no such input). `upsampling_factor`: the factor by which an upsampler enlarges frames.
    """

    inner_model: InnerModelConfig
    sigma_data: Positive
    sigma_offset_noise: Weight
    noise_previous_obs: bool | None = None
    upsampling_factor: Annotated[int, Between(1, 64)] | None = None

    def __post_init__(self) -> None:
        inner_model = replace(self.inner_model, is_upsampler=self.upsampling_factor is not None)
        object.__setattr__(self, "inner_model", inner_model)


class Denoiser(nn.Module):
    """Predicts a clean frame from a noisy one, the n previous frames, and the n actions taken at them.

    An upsampler predicts a large frame from a noisy one, the n previous large frames, and the same frame in small.
    """

    def __init__(self, config: DenoiserConfig, sigma_distribution: SigmaDistributionConfig | None = None) -> None:
        """`sigma_distribution`: the noise levels of training, `SigmaDistributionConfig()` by default."""
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
        """The denoiser itself: see `compile`."""
        return self

    def compile(self, **options: Any) -> None:
        """Compile `denoise` and `errors`, each as one function with the network inside.

        So scaling and quantisation are fused with the network's first and last layers. `forward`, which draws the
        noise, is not compiled.
        """
        self.denoise = torch.compile(self.denoise, **options)
        self.errors = torch.compile(self.errors, **options)

    def forward(self, batch: Batch, randn: Randn = torch.randn) -> tuple[Tensor, Metrics]:
        """Loss on segments of n + 1 + k frames: k + 1 predictions, each with the previous ones in its history."""
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
            errors, frames[step + n] = self.errors(noisy_next_obs, sigma, next_obs, obs, act, sigma_cond)
            losses.append(masked_mean(errors, mask))
        loss = torch.stack(losses).mean()
        return loss, {"loss_denoising": loss.detach()}

    def errors(
        self,
        noisy_next_obs: Tensor,
        sigma: Tensor,
        next_obs: Tensor,
        obs: Tensor,
        act: Tensor | None,
        sigma_cond: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Squared errors (b) of the network's output, and the predicted frames as `denoise` returns them.

        `next_obs` (b, c, h, w): the clean frames, `obs` (b, n·c, h, w); the others as in `denoise`. No gradient flows
        through the predicted frames.
        """
        scales = self.parameterisation.conditioners(sigma)
        output = self.network_output(noisy_next_obs, scales, obs, act, sigma_cond)
        errors = (output - scales.target(next_obs, noisy_next_obs)).pow(2).mean(dim=(1, 2, 3))
        return errors, _quantise(scales.denoised(noisy_next_obs, output.detach()))

    def denoise(
        self, noisy_next_obs: Tensor, sigma: Tensor, obs: Tensor, act: Tensor | None, sigma_cond: Tensor | None = None
    ) -> Tensor:
        """Predict the clean frame (b, c, h, w) in [-1, 1], quantised to 256 levels.

        `noisy_next_obs` (b, c, h, w), `sigma` (b), `obs` (b, n, c, h, w) in [-1, 1] (for an upsampler, followed by the
        enlarged frame), `act` as in `InnerModel.forward`, `sigma_cond` (b): the noise level of `obs`.
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
        """The raw output of the network, float32 (b, c, h, w); `scales.denoised` converts it to a clean frame.

        `noisy_next_obs` (b, c, h, w), `scales`: the conditioners of its noise levels, `obs` (b, n·c, h, w) in [-1, 1],
        `act` and `sigma_cond` as in `denoise`.
        """
        c_noise_cond = None if sigma_cond is None else self.parameterisation.c_noise_cond(sigma_cond)
        history = self.parameterisation.history_input(obs)
        noisy = scales.network_input(noisy_next_obs)
        return self.inner_model(noisy, scales.c_noise, history, act, c_noise_cond).float()

    def enlarge(self, frames: Tensor) -> Tensor:
        """Enlarge frames (b, c, h, w) in [-1, 1] to the upsampler's size by bicubic interpolation."""
        return F.interpolate(frames, scale_factor=self.config.upsampling_factor, mode="bicubic")

    def _add_noise(self, frames: Tensor, randn: Randn) -> tuple[Tensor, Tensor]:
        """Add noise of random levels to frames (b, c, h, w); returns the noisy frames and the levels (b)."""
        sigma = self.sigma_distribution.draw(len(frames), frames.device, randn)
        return add_noise(frames, sigma, self.config.sigma_offset_noise, randn), sigma


def _quantise(frames: Tensor) -> Tensor:
    """Clamp to [-1, 1] and truncate to one of 256 levels, like a conversion to uint8."""
    return frames.clamp(-1, 1).add(1).div(2).mul(255).floor().div(255).mul(2).sub(1)
