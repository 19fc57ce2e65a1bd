"""Every fast path against its plain twin, on the recorded networks: channels-last bf16, and compiled."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from algorithms.diamond.agent import DiamondAgent
from data import Batch
from files import load_tensors
from models.actor_critic import Rollout
from models.diffusion import Denoiser, DenoiserConfig, DiffusionSampler, DiffusionSamplerConfig, InnerModelConfig
from run.compiled import compile_networks
from run.device import autocast
from test_reference import GREY_LEVEL, agent_config, batch_of

CPU = torch.device("cpu")
FLOAT32_ERROR = 1e-4
"""Of each gradient, relative to its norm: other orders of summation lead to errors of 4e-6 in these networks."""

LOSS_ERROR, SMALLEST_COSINE = 0.02, 0.97
"""bf16 keeps 8 bits: relative errors of 0.4% an operation, which a loss averages and a gradient adds up. The smallest
cosine of a parameter's gradient is 0.99 here."""

MORE_THAN_PLAIN, FLOOR = 2.0, 0.01
"""How far compiled bf16 may be from float32: it rounds in other places than plain bf16, and no more often. So its error
is at most twice the one of plain bf16 (1.5 times is seen), or a few roundings where plain bf16 happens to be close."""


@pytest.fixture(scope="module")
def recorded(reference_dir: Path) -> dict[str, Any]:
    return load_tensors(reference_dir / "atari_small.pt")


@pytest.fixture
def agent(recorded: dict[str, Any]) -> DiamondAgent:
    agent = DiamondAgent(agent_config(recorded["config"]))
    agent.load_state_dict(recorded["state_dict"])
    return agent


def losses(recorded: dict[str, Any]) -> dict[str, Callable[[DiamondAgent], Tensor]]:
    """For each component, what computes its loss on recorded data with fixed noise."""

    def denoiser(agent: DiamondAgent) -> Tensor:
        torch.manual_seed(0)
        return agent.denoiser(batch_of(recorded["denoiser"]["loss"]))[0]

    def rew_end_model(agent: DiamondAgent) -> Tensor:
        return agent.rew_end_model(batch_of(recorded["rew_end_model"]["loss"]))[0]

    def actor_critic(agent: DiamondAgent) -> Tensor:
        return agent.actor_critic(make_rollout(batch_of(recorded["rew_end_model"]["loss"]), agent))[0]

    return {"denoiser": denoiser, "rew_end_model": rew_end_model, "actor_critic": actor_critic}


def make_rollout(batch: Batch, agent: DiamondAgent) -> Rollout:
    rng = torch.Generator().manual_seed(0)
    obs, act = batch.obs.movedim(1, 0), batch.act.T.contiguous()
    t, b = act.shape
    dead = torch.rand(t, b, generator=rng) < 0.3
    history = torch.randint(256, (t, b, 2, *obs.shape[2:]), generator=rng, dtype=torch.uint8)
    mask = torch.rand(t, b, 2, generator=rng) < 0.8
    returns, hx_cx = torch.randn(t, b, generator=rng), agent.actor_critic.initial_memory(b)
    return Rollout(obs, act, returns, hx_cx, dead, history, mask)


@dataclass(frozen=True)
class Result:
    """A loss, and its gradient by parameter name."""

    loss: float
    gradients: dict[str, Tensor]

    def errors(self, exact: "Result") -> dict[str, float]:
        """How far each gradient is from the exact one, relative to its norm."""
        pairs = {name: (self.gradients[name], wanted) for name, wanted in exact.gradients.items()}
        return {name: float((ours - wanted).norm() / wanted.norm()) for name, (ours, wanted) in pairs.items()}


def result(name: str, agent: DiamondAgent, loss: Callable[[DiamondAgent], Tensor], precision: torch.dtype) -> Result:
    module = getattr(agent, name)
    module.zero_grad()
    with autocast(CPU, precision):
        value = loss(agent)
    value.backward()
    return Result(float(value.detach()), {name: each.grad.clone() for name, each in module.named_parameters()})


def assert_bf16_is_close(ours: Result, exact: Result) -> None:
    assert ours.loss == pytest.approx(exact.loss, rel=LOSS_ERROR)
    for name, wanted in exact.gradients.items():
        cosine = nn.functional.cosine_similarity(ours.gradients[name].flatten(), wanted.flatten(), dim=0)
        assert float(cosine) > SMALLEST_COSINE, name


@pytest.mark.parametrize("name", ["denoiser", "rew_end_model", "actor_critic"])
def test_bf16_and_channels_last(recorded: dict[str, Any], agent: DiamondAgent, name: str) -> None:
    fast, loss = copy.deepcopy(agent).to(memory_format=torch.channels_last), losses(recorded)[name]
    exact = result(name, agent, loss, torch.float32)
    assert_bf16_is_close(result(name, fast, loss, torch.bfloat16), exact)
    assert max(result(name, fast, loss, torch.float32).errors(exact).values()) < FLOAT32_ERROR


@pytest.mark.slow
@pytest.mark.parametrize("name", ["denoiser", "rew_end_model", "actor_critic"])
def test_compiled(recorded: dict[str, Any], agent: DiamondAgent, name: str) -> None:
    """Every parameter's gradient: one half of a U-Net once learned nothing, and the loss looked right."""
    if shutil.which("g++") is None:
        pytest.skip("compilation on the CPU needs a C++ compiler")
    agent.denoiser, loss = small_denoiser(), losses(recorded)[name]
    fast = copy.deepcopy(agent).to(memory_format=torch.channels_last)
    plain_bf16 = result(name, fast, loss, torch.bfloat16)
    assert compile_networks([getattr(fast, name).network_to_compile], True, CPU, is_first=True)
    exact = result(name, agent, loss, torch.float32)
    compiled = result(name, fast, loss, torch.float32)
    assert compiled.loss == pytest.approx(exact.loss, rel=1e-5)
    assert max(compiled.errors(exact).values()) < FLOAT32_ERROR
    compiled_bf16 = result(name, fast, loss, torch.bfloat16)
    assert_bf16_is_close(compiled_bf16, exact)
    inevitable = plain_bf16.errors(exact)
    for parameter, error in compiled_bf16.errors(exact).items():
        assert error < max(FLOOR, MORE_THAN_PLAIN * inevitable[parameter]), parameter


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
def test_compiled_sampling(order: int) -> None:
    """Steps of Euler and Heun, in float32. A frame that is quantised may round to a neighbouring level."""
    if shutil.which("g++") is None:
        pytest.skip("compilation on the CPU needs a C++ compiler")
    plain = small_denoiser().eval()
    fast = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    assert compile_networks([fast.network_to_compile], True, CPU, is_first=True)
    obs, act, frames = torch.rand(2, 4, 3, 16, 16) * 2 - 1, torch.randint(4, (2, 4)), []
    for denoiser in (fast, plain):
        torch.manual_seed(0)
        config = DiffusionSamplerConfig(num_steps_denoising=3, order=order, s_churn=0.5)
        frames.append(DiffusionSampler(denoiser, config).sample(obs, act)[0])
    off = (frames[0] - frames[1]).abs()
    assert float(off.max()) < 2.5 * GREY_LEVEL
    assert float((off > GREY_LEVEL / 2).float().mean()) < 0.01


def small_denoiser() -> Denoiser:
    """A denoiser with every kind of layer, which compiles in a minute; the recorded one takes two or three."""
    torch.manual_seed(0)
    denoiser = Denoiser(DenoiserConfig(InnerModelConfig(3, 4, 16, (1, 1), (16, 16), (0, 0), 4), 0.5, 0.3))
    for parameter in denoiser.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return denoiser
