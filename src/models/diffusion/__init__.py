"""Diffusion models of the next frame, as four choices: network, parameterisation, noise and sampler.

The network is in `inner_model` or `conditional_unet`, its inputs and prediction target (EDM, ε or v) in
`parameterisation`, the noise of training in `noise` (log-normal) or `schedules` (linear or cosine), and the solvers in
`samplers`. `denoiser` combines the first three; `sampler` applies a solver to a denoiser.
"""

from models.diffusion.conditional_unet import ConditionalUNet, ConditionalUNetConfig
from models.diffusion.denoiser import Denoiser, DenoiserConfig
from models.diffusion.inner_model import InnerModel, InnerModelConfig
from models.diffusion.noise import SigmaDistributionConfig
from models.diffusion.sampler import (
    DiffusionSampler,
    DiffusionSamplerConfig,
    RespacedSamplerConfig,
    SamplerConfig,
    build_sigmas,
)
from models.diffusion.schedules import CosineScheduleConfig, LinearScheduleConfig, Schedule

__all__ = [
    "ConditionalUNet",
    "ConditionalUNetConfig",
    "CosineScheduleConfig",
    "Denoiser",
    "DenoiserConfig",
    "DiffusionSampler",
    "DiffusionSamplerConfig",
    "InnerModel",
    "InnerModelConfig",
    "LinearScheduleConfig",
    "RespacedSamplerConfig",
    "SamplerConfig",
    "Schedule",
    "SigmaDistributionConfig",
    "build_sigmas",
]
