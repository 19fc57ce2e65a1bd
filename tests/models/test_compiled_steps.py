"""What is compiled: scaling, the network and quantisation as one function, under unchanged names of weights."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, fx

from models.diffusion import (
    Denoiser,
    DenoiserConfig,
    DiffusionSampler,
    DiffusionSamplerConfig,
    InnerModelConfig,
    LinearScheduleConfig,
    RespacedSamplerConfig,
)
from run.compiled import uncompiled


class Compiler:
    """Keeps the graphs that it is given, and changes nothing."""

    def __init__(self) -> None:
        self.graphs: list[set[str]] = []

    def __call__(self, graph: fx.GraphModule, inputs: list[Tensor]) -> fx.GraphModule:
        self.graphs.append({str(getattr(node.target, "__name__", node.target)) for node in graph.graph.nodes})
        return graph


@pytest.fixture(params=["edm", "eps"])
def denoiser(request: pytest.FixtureRequest) -> Denoiser:
    config = DenoiserConfig(InnerModelConfig(3, 2, 16, (1,), (8,), (0,), 4), 0.5, 0.3)
    if request.param == "eps":
        config = replace(config, parameterisation="eps", sigma_data=None, schedule=LinearScheduleConfig(10))
    denoiser = Denoiser(config)
    for parameter in denoiser.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return denoiser


def inputs() -> dict[str, Tensor]:
    frame, act = torch.randn(2, 3, 8, 8), torch.randint(4, (2, 2))
    return {"noisy_next_obs": frame, "sigma": torch.tensor([0.5, 2.0]), "obs": torch.randn(2, 2, 3, 8, 8), "act": act}


def test_a_step_of_the_sampler_is_one_graph(denoiser: Denoiser) -> None:
    compiler, given, plain = Compiler(), inputs(), copy.deepcopy(denoiser)
    names = list(denoiser.state_dict())
    denoiser.network_to_compile.compile(backend=compiler, dynamic=False)
    with torch.no_grad():
        assert torch.equal(denoiser.denoise(**given), plain.denoise(**given))
    (graph,) = compiler.graphs
    last = "floor" if denoiser.parameterisation.quantises else "clamp"
    assert {"rsqrt", "conv2d", last} <= graph
    assert list(denoiser.state_dict()) == names


def test_a_prediction_of_the_loss_is_one_graph(denoiser: Denoiser) -> None:
    compiler, given, plain = Compiler(), inputs(), copy.deepcopy(denoiser)
    denoiser.network_to_compile.compile(backend=compiler, dynamic=False)
    given["obs"] = given["obs"].flatten(1, 2)
    target = torch.randn(2, 3, 8, 8)
    results = [each.errors(**given, next_obs=target, sigma_cond=None) for each in (denoiser, plain)]
    (errors, predicted), (plain_errors, plain_predicted) = results
    assert torch.equal(errors, plain_errors)
    assert torch.equal(predicted, plain_predicted)
    assert not predicted.requires_grad
    (graph,) = compiler.graphs
    assert {"rsqrt", "conv2d", "floor"} <= graph


@pytest.mark.parametrize("order", [1, 2])
def test_a_step_of_a_sampler_is_one_graph_with_its_arithmetic(denoiser: Denoiser, order: int) -> None:
    """Whatever its noise levels, and the frames that it follows. Heun's last step is Euler's."""
    compiler, plain = Compiler(), copy.deepcopy(denoiser)
    config = DiffusionSamplerConfig(num_steps_denoising=5, order=order)
    if denoiser.schedule is not None:
        config = RespacedSamplerConfig(num_steps_denoising=5, eta=0.5)
    denoiser.network_to_compile.compile(backend=compiler, dynamic=False, fullgraph=True)
    for _ in range(2):
        obs, act = torch.randn(2, 2, 3, 8, 8), torch.randint(4, (2, 2))
        results = []
        for each in (denoiser, plain):
            torch.manual_seed(0)
            results.append(DiffusionSampler(each, config).sample(obs, act)[1])
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))
    assert len(compiler.graphs) == (2 if order == 2 and denoiser.schedule is None else 1)
    for graph in compiler.graphs:
        assert {"rsqrt", "conv2d", "sub", "mul"} <= graph


def test_other_sizes_need_no_compilation(denoiser: Denoiser) -> None:
    compiler = Compiler()
    denoiser.network_to_compile.compile(backend=compiler, dynamic=False)
    with uncompiled():
        denoiser.denoise(**inputs())
    assert not compiler.graphs
