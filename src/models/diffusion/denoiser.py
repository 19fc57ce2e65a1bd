"""The diffusion model of the next frame: a network, its parameterisation, and the noise it is trained with."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import Batch
from models.diffusion.conditional_unet import ConditionalUNet, ConditionalUNetConfig
from models.diffusion.inner_model import InnerModel, InnerModelConfig
from models.diffusion.noise import Randint, Randn, SigmaDistributionConfig
from models.diffusion.parameterisation import EDM, Conditioners, Parameterisation, VariancePreserving, log_level
from models.diffusion.samplers import PLAIN, Steps
from models.diffusion.schedules import CosineScheduleConfig, LinearScheduleConfig, Schedule
from models.losses import masked_mean
from models.metrics import Metrics
from ranges import BadSetting, Between, Positive, Weight

PARAMETERISATIONS = ("edm", "eps", "v")
CONDITIONINGS = ("actions", "none")
ROUNDING = 0.01
"""Parts of a step."""


@dataclass(frozen=True)
class DenoiserConfig:
    """The network, its parameterisation, and the standard deviation of the offset noise, constant over a channel.

    `parameterisation`: edm (with `sigma_data`, the standard deviation of the data), eps or v. `schedule`: the numbered
    steps whose noise levels are trained, each as often as any other; None for levels of a `SigmaDistributionConfig`.
    `conditioning`: actions, or none. `noise_previous_obs`: whether noise is added to the history in training; the
    network is conditioned on its level (None: the network has no such input). `upsampling_factor`: the factor by which
    an upsampler enlarges frames.
    """

    inner_model: InnerModelConfig | ConditionalUNetConfig
    sigma_data: Positive | None
    sigma_offset_noise: Weight
    noise_previous_obs: bool | None = None
    upsampling_factor: Annotated[int, Between(1, 64)] | None = None
    parameterisation: str = "edm"
    schedule: LinearScheduleConfig | CosineScheduleConfig | None = None
    conditioning: str = "actions"

    def __post_init__(self) -> None:
        for name, known in (("parameterisation", PARAMETERISATIONS), ("conditioning", CONDITIONINGS)):
            if (value := getattr(self, name)) not in known:
                raise BadSetting(f"{name}={value} is unknown: use {' or '.join(known)}.")
        if (self.parameterisation == "edm") != (self.sigma_data is not None):
            seen = "null" if self.sigma_data is None else self.sigma_data
            raise BadSetting(f"sigma_data={seen} must be null for parameterisation=eps or v, and a number for edm.")
        if isinstance(self.inner_model, InnerModelConfig):
            inner_model = replace(self.inner_model, is_upsampler=self.upsampling_factor is not None)
            object.__setattr__(self, "inner_model", inner_model)
        elif self.upsampling_factor is not None or self.noise_previous_obs is not None:
            raise BadSetting("inner_model cannot be a ConditionalUNet here: it takes neither large nor noisy frames.")

    def fit(self, img_channels: int, height: int, width: int) -> "DenoiserConfig":
        """The configuration for frames of this shape; raises BadSetting if the network cannot take them."""
        if isinstance(self.inner_model, ConditionalUNetConfig):
            self.inner_model.check_frame(height, width)
        return replace(self, inner_model=replace(self.inner_model, img_channels=img_channels))

    def with_actions(self, num_actions: int) -> "DenoiserConfig":
        """The configuration for this number of actions, or of entries of an action vector."""
        number = num_actions if self.conditioning == "actions" else 0
        return replace(self, inner_model=replace(self.inner_model, num_actions=number))


class Denoiser(nn.Module):
    """Predicts a clean frame from a noisy one, the n previous frames, and the n actions taken at them.

    An upsampler predicts a large frame from a noisy one, the n previous large frames, and the same frame in small.
    """

    def __init__(self, config: DenoiserConfig, sigma_distribution: SigmaDistributionConfig | None = None) -> None:
        """`sigma_distribution`: the noise levels of training without a schedule, by default those of its class."""
        super().__init__()
        self.config = config
        self.sigma_distribution = sigma_distribution or SigmaDistributionConfig()
        if isinstance(config.inner_model, ConditionalUNetConfig):
            self.inner_model = ConditionalUNet(config.inner_model)
        else:
            self.inner_model = InnerModel(config.inner_model, config.noise_previous_obs is not None)
        self.sampling_steps: Steps = PLAIN
        self.schedule = None if config.schedule is None else Schedule(config.schedule)
        if self.schedule is not None:
            levels = torch.tensor(self.schedule.sigmas.tolist(), dtype=torch.float64)
            self.register_buffer("sigmas", levels.float(), persistent=False)
            self.register_buffer("log_sigmas", levels.log().float(), persistent=False)
        self.parameterisation: Parameterisation
        if config.parameterisation == "edm":
            self.parameterisation = EDM(config.sigma_data, config.sigma_offset_noise)
        else:
            noise_input = log_level if self.schedule is None else self.embed_level
            self.parameterisation = VariancePreserving(config.parameterisation, config.sigma_offset_noise, noise_input)

    @property
    def num_steps_conditioning(self) -> int:
        return self.config.inner_model.num_steps_conditioning

    @property
    def network_to_compile(self) -> nn.Module:
        """The denoiser itself: see `compile`."""
        return self

    def compile(self, **options: Any) -> None:
        """Compile `denoise`, `errors` and the samplers' steps, each as one function with the network inside.

        So scaling, quantisation and a step's arithmetic are fused with the network's first and last layers. `forward`,
        which draws the noise, is not compiled.
        """
        self.denoise = torch.compile(self.denoise, **options)
        self.errors = torch.compile(self.errors, **options)
        self.sampling_steps = self.sampling_steps.compiled(**options)

    def forward(
        self, batch: Batch, randn: Randn = torch.randn, randint: Randint = torch.randint
    ) -> tuple[Tensor, Metrics]:
        """Loss on segments of n + 1 + k frames: k + 1 predictions, each with the previous ones in its history."""
        n, upsamples = self.num_steps_conditioning, self.config.upsampling_factor is not None
        frames = list((batch.full_frames if upsamples else batch.frames).unbind(1))
        losses = []
        for step in range(len(frames) - n):
            obs, act = torch.cat(frames[step : step + n], dim=1), batch.act[:, step : step + n]
            next_obs, mask = frames[step + n], batch.mask_padding[:, step + n]
            sigma_cond = None
            if self.config.noise_previous_obs:
                obs, sigma_cond = self._add_noise(obs, randn, randint)
            if upsamples:
                obs = torch.cat((obs, self.enlarge(batch.frames[:, step + n])), dim=1)
            noisy_next_obs, sigma = self._add_noise(next_obs, randn, randint)
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
        """Squared errors (b) of the network's output, and the predicted frames, quantised to 256 levels.

        `next_obs` (b, c, h, w): the clean frames, `obs` (b, n·c, h, w); the others as in `denoise`. No gradient flows
        through the predicted frames.
        """
        scales = self.parameterisation.conditioners(sigma)
        output = self.network_output(noisy_next_obs, scales, obs, act, sigma_cond)
        errors = (output - scales.target(next_obs, noisy_next_obs)).pow(2).mean(dim=(1, 2, 3))
        return errors, quantise(scales.denoised(noisy_next_obs, output.detach()))

    def denoise(
        self, noisy_next_obs: Tensor, sigma: Tensor, obs: Tensor, act: Tensor | None, sigma_cond: Tensor | None = None
    ) -> Tensor:
        """Predict the clean frame (b, c, h, w) in [-1, 1]; if the parameterisation says so, quantised to 256 levels.

        `noisy_next_obs` (b, c, h, w), `sigma` (b), `obs` (b, n, c, h, w) in [-1, 1] (for an upsampler, followed by the
        enlarged frame), `act` as in `InnerModel.forward`, `sigma_cond` (b): the noise level of `obs`.
        """
        scales = self.parameterisation.conditioners(sigma)
        output = self.network_output(noisy_next_obs, scales, obs.flatten(1, 2), act, sigma_cond)
        denoised = scales.denoised(noisy_next_obs, output)
        return quantise(denoised) if self.parameterisation.quantises else denoised.clamp(-1, 1)

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
        if self.config.conditioning == "none" and act is not None:
            act = torch.zeros(*act.shape[:2], 0, device=obs.device)
        return self.inner_model(noisy, scales.c_noise, history, act, c_noise_cond).float()

    def embed_level(self, sigma: Tensor) -> Tensor:
        """The network's input for noise levels (b), by their steps in the schedule.

        Levels between those of two steps lie between their numbers, in proportion to ln(σ).
        """
        levels, last = self.log_sigmas, len(self.log_sigmas) - 1
        log_sigma = sigma.log()
        after = torch.searchsorted(levels, log_sigma).clamp(1, last)
        low, high = levels[after - 1], levels[after]
        step = (after - 1 + (log_sigma - low) / (high - low)).clamp(0, last)
        # The levels of the schedule themselves lead to whole numbers, in spite of rounding.
        step = torch.where((step - step.round()).abs() < ROUNDING, step.round(), step)
        return self.inner_model.noise_input(step, last + 1)

    def enlarge(self, frames: Tensor) -> Tensor:
        """Enlarge frames (b, c, h, w) in [-1, 1] to the upsampler's size by bicubic interpolation."""
        return F.interpolate(frames, scale_factor=self.config.upsampling_factor, mode="bicubic")

    def _add_noise(self, frames: Tensor, randn: Randn, randint: Randint) -> tuple[Tensor, Tensor]:
        """Add noise of random levels to frames (b, c, h, w); returns the noisy frames and the levels (b)."""
        if self.schedule is None:
            sigma = self.sigma_distribution.draw(len(frames), frames.device, randn)
        else:
            sigma = self.sigmas[randint(len(self.schedule), (len(frames),), device=frames.device)]
        return self.parameterisation.add_noise(frames, sigma, randn), sigma


def quantise(frames: Tensor) -> Tensor:
    """Clamp to [-1, 1] and truncate to one of 256 levels, like a conversion to uint8."""
    return frames.clamp(-1, 1).add(1).div(2).mul(255).floor().div(255).mul(2).sub(1)
