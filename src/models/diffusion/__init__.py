"""Diffusion models of the next frame, as four choices: network, parameterisation, noise and sampler.

The network is in `inner_model`, what it predicts in `parameterisation`, the noise of training in `noise`, and the ways
from noise to a frame in `samplers`. `denoiser` joins the first three, `sampler` applies the fourth to it.
"""

from models.diffusion.denoiser import Denoiser, DenoiserConfig
from models.diffusion.inner_model import InnerModel, InnerModelConfig
from models.diffusion.noise import SigmaDistributionConfig
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
