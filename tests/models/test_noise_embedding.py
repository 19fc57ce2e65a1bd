"""Embeddings of noise levels are float32 in every precision: in training, in play mode, and compiled."""

import math
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.blocks import FourierFeatures
from models.diffusion import Denoiser, DenoiserConfig, DiffusionSampler, DiffusionSamplerConfig, InnerModelConfig
from models.diffusion.parameterisation import EDM
from run.device import autocast, cast_weights

CPU = torch.device("cpu")
NUM_LEVELS = 200
FLOAT32_ERROR = 2e-5
"""Angles reach 50 radians; the error of the bfloat16 product was 0.07."""


@pytest.fixture
def c_noise() -> Tensor:
    """The network's input for 200 noise levels of training."""
    return EDM(sigma_data=0.5, sigma_offset_noise=0.3).conditioners(torch.logspace(-2.7, 1.3, NUM_LEVELS)).c_noise


def error(features: FourierFeatures, numbers: Tensor, embedding: Tensor) -> float:
    """The largest distance from the embedding in float64."""
    angles = 2 * math.pi * numbers.double()[:, None] * features.weight.double()
    return float((embedding - torch.cat((angles.cos(), angles.sin()), dim=-1)).abs().max())


def assert_exact(features: FourierFeatures, numbers: Tensor, embed: Callable[[Tensor], Tensor]) -> None:
    with autocast(CPU, torch.bfloat16):
        embedding = embed(numbers)
    assert embedding.dtype == torch.float32
    assert len(embedding.unique(dim=0)) == NUM_LEVELS
    assert error(features, numbers, embedding) < FLOAT32_ERROR


def test_every_level_has_its_own_embedding(c_noise: Tensor) -> None:
    features = FourierFeatures(256)
    assert_exact(features, c_noise, features)


@pytest.mark.slow
def test_compiled(c_noise: Tensor) -> None:
    if shutil.which("g++") is None:
        pytest.skip("compilation on the CPU needs a C++ compiler")
    features = FourierFeatures(256)
    assert_exact(features, c_noise, torch.compile(features, dynamic=False))


@pytest.mark.parametrize("casts", [False, True])
def test_in_training_and_in_play_mode(casts: bool) -> None:
    """Both embeddings as the sampler and the loss reach them; play mode casts weights once."""
    inner_model = InnerModelConfig(3, 1, 16, (1,), (8,), (0,), 4)
    denoiser = Denoiser(DenoiserConfig(inner_model, 0.5, 0.3, noise_previous_obs=True))
    if casts:
        cast_weights(denoiser, torch.bfloat16)
    network, seen = denoiser.inner_model, []
    for features in (network.noise_emb, network.noise_cond_emb):
        features.register_forward_hook(lambda module, given, output: seen.append((module, *given, output)))
    sampler = DiffusionSampler(denoiser, DiffusionSamplerConfig(s_cond=0.005))
    with autocast(CPU, torch.bfloat16):
        sampler.sample(torch.zeros(1, 1, 3, 8, 8), torch.zeros(1, 1, dtype=torch.int64))
    assert len(seen) == 6
    for features, numbers, embedding in seen:
        assert numbers.dtype == embedding.dtype == torch.float32
        assert error(features, numbers, embedding) < FLOAT32_ERROR
