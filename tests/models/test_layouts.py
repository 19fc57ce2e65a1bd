"""What differs between devices: memory formats, and the way frames are enlarged in compiled networks."""

import pytest
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from models.blocks import GroupNorm, Upsample, channels_last_group_norm


def make_frames(dtype: torch.dtype = torch.float32) -> Tensor:
    """Channels-last frames with another mean and spread in each channel."""
    frames = torch.randn(2, 64, 6, 5) * torch.rand(64, 1, 1) + torch.randn(64, 1, 1)
    return frames.to(dtype, memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("is_affine", [False, True])
def test_group_norm_in_channels_last_computes_the_same(is_affine: bool) -> None:
    x, affine = make_frames(), [torch.rand(64), torch.randn(64)] if is_affine else []
    ours, theirs = channels_last_group_norm(x, 2, *affine), F.group_norm(x, 2, *affine)
    torch.testing.assert_close(ours, theirs)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    weights = torch.randn_like(ours)
    gradients = [torch.autograd.grad((output * weights).sum(), x)[0] for output in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_group_norm_in_channels_last_rounds_bfloat16_once() -> None:
    x = make_frames(torch.bfloat16)
    ours, exact = channels_last_group_norm(x, 2), F.group_norm(x.float(), 2)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), exact, atol=1e-5, rtol=2**-8)


def test_networks_on_the_cpu_take_the_norm_of_pytorch() -> None:
    """Which keeps channels-last there; the recorded numbers depend on its rounding."""
    x, norm = make_frames(), GroupNorm(64)
    assert torch.equal(norm(x), norm.norm(x))
    assert norm(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("device", "interpolates"), [("cpu", False), ("meta", True)])
def test_only_cpus_enlarge_without_interpolation(device: str, interpolates: bool) -> None:
    """PyTorch loses the gradient of `interpolate` in a compiled network on the CPU only."""
    graphs: list[fx.GraphModule] = []

    def compiler(graph: fx.GraphModule, inputs: list[Tensor]) -> fx.GraphModule:
        graphs.append(graph)
        return graph

    upsample = torch.compile(Upsample(4).to(device), backend=compiler)
    assert upsample(torch.zeros(1, 4, 2, 2, device=device)).shape == (1, 4, 4, 4)
    called = [node.target for graph in graphs for node in graph.graph.nodes]
    assert (F.interpolate in called) == interpolates
