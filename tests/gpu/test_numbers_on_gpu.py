"""Precision and memory formats on a GPU."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import AdaptiveGroupNorm, FourierFeatures, GroupNorm, Upsample
from models.diffusion import Denoiser, DenoiserConfig, InnerModelConfig
from models.diffusion.parameterisation import EDM
from run.device import autocast

pytestmark = pytest.mark.gpu


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("is_compiled", [False, True])
def test_every_noise_level_has_its_own_embedding(gpu: torch.device, is_compiled: bool) -> None:
    c_noise = EDM(0.5, 0.3).conditioners(torch.logspace(-2.7, 1.3, 200, device=gpu)).c_noise
    features = FourierFeatures(256).to(gpu)
    with autocast(gpu, torch.bfloat16):
        embedding = (torch.compile(features) if is_compiled else features)(c_noise)
    assert embedding.dtype == torch.float32
    assert len(embedding.unique(dim=0)) == 200
    angles = 2 * math.pi * c_noise.double()[:, None] * features.weight.double()
    assert float((embedding - torch.cat((angles.cos(), angles.sin()), dim=-1)).abs().max()) < 2e-5


def test_float32_has_no_tf32(gpu: torch.device, backends: Callable[[torch.dtype], None]) -> None:
    """TF32 keeps 11 bits: its errors are 3e-4 and more."""
    backends(torch.float32)
    left, right = torch.randn(256, 256, device=gpu), torch.randn(256, 256, device=gpu)
    x, weight = torch.randn(4, 64, 16, 16, device=gpu), torch.randn(64, 64, 3, 3, device=gpu)
    for ours, exact in (
        (left @ right, left.double() @ right.double()),
        (F.conv2d(x, weight), F.conv2d(x.double(), weight.double())),
    ):
        assert float((ours - exact).norm() / exact.norm()) < 1e-5


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_group_norm_keeps_channels_last(gpu: torch.device, precision: torch.dtype) -> None:
    x = torch.randn(2, 64, 8, 8, device=gpu, dtype=precision).to(memory_format=torch.channels_last)
    cond, tolerance = torch.randn(2, 16, device=gpu), 1e-5 if precision == torch.float32 else 0.05
    for norm in (GroupNorm(64).to(gpu), AdaptiveGroupNorm(64, 16).to(gpu)):
        arguments = (cond,) if isinstance(norm, AdaptiveGroupNorm) else ()
        with autocast(gpu, precision):
            ours, plain = norm(x, *arguments), norm(x.contiguous(), *arguments)
        assert is_channels_last(ours)
        torch.testing.assert_close(ours.float(), plain.float(), atol=tolerance, rtol=tolerance)


def test_every_layer_of_a_denoiser_is_channels_last(gpu: torch.device) -> None:
    config = DenoiserConfig(InnerModelConfig(3, 4, 64, (1, 1), (64, 64), (0, 0), 4), 0.5, 0.3)
    network = Denoiser(config).to(gpu, memory_format=torch.channels_last)
    others: list[nn.Module] = []

    def look(module: nn.Module, given: object, output: Tensor) -> None:
        if not is_channels_last(output):
            others.append(module)

    for module in network.modules():
        if isinstance(module, nn.Conv2d | GroupNorm | AdaptiveGroupNorm):
            module.register_forward_hook(look)
    obs, act = torch.zeros(2, 4, 3, 16, 16, device=gpu), torch.zeros(2, 4, dtype=torch.int64, device=gpu)
    with autocast(gpu, torch.bfloat16):
        network.denoise(torch.randn(2, 3, 16, 16, device=gpu), torch.ones(2, device=gpu), obs, act)
    assert not others


@pytest.mark.slow
def test_compiled_interpolation_has_a_gradient(gpu: torch.device) -> None:
    upsample = Upsample(8).to(gpu, memory_format=torch.channels_last)
    x = torch.randn(2, 8, 4, 4, device=gpu, requires_grad=True)
    gradients = []
    for each in (upsample, torch.compile(upsample)):
        with autocast(gpu, torch.bfloat16):
            gradients.append(torch.autograd.grad(each(x).float().pow(2).sum(), x)[0])
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 0.02
