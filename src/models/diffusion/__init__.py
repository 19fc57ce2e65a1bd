"""Diffusion models of the next frame, as four choices: network, parameterisation, noise and sampler.

The network is in `inner_model`, its inputs and prediction target in `parameterisation`, the noise of training in
`noise`, and the solvers in `samplers`. `denoiser` combines the first three; `sampler` applies a solver to a denoiser.
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
