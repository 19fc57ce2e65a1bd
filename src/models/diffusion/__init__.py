"""The diffusion world model: denoiser, the network inside it, and the sampler."""

from models.diffusion.denoiser import Denoiser, DenoiserConfig, SigmaDistributionConfig
from models.diffusion.inner_model import InnerModel, InnerModelConfig
from models.diffusion.sampler import DiffusionSampler, DiffusionSamplerConfig, build_sigmas

__all__ = [
    "Denoiser",
    "DenoiserConfig",
    "DiffusionSampler",
    "DiffusionSamplerConfig",
    "InnerModel",
    "InnerModelConfig",
    "SigmaDistributionConfig",
    "build_sigmas",
]
