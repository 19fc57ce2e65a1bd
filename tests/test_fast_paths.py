"""Every fast path against its plain twin, on the recorded networks: channels-last bf16, and compiled."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agent import Agent
from data import Batch
from files import load_tensors
from models.actor_critic import Rollout
from models.diffusion import InnerModel, InnerModelConfig
from run.compiled import compile_networks
from run.device import autocast
from test_reference import agent_config, batch_of

CPU = torch.device("cpu")
LOSS_TOLERANCE, GRADIENT_ANGLE = 0.02, 0.98
"""bf16 keeps 8 bits: relative errors of 0.4% an operation, which a loss averages and a gradient adds up."""


@pytest.fixture(scope="module")
def recorded(reference_dir: Path) -> dict[str, Any]:
    return load_tensors(reference_dir / "atari_small.pt")


@pytest.fixture
def agent(recorded: dict[str, Any]) -> Agent:
    agent = Agent(agent_config(recorded["config"]))
    agent.load_state_dict(recorded["state_dict"])
    return agent


def losses(recorded: dict[str, Any]) -> dict[str, Callable[[Agent], Tensor]]:
    """For each component, what computes its loss on recorded data with fixed noise."""

    def denoiser(agent: Agent) -> Tensor:
        torch.manual_seed(0)
        return agent.denoiser(batch_of(recorded["denoiser"]["loss"]))[0]

    def rew_end_model(agent: Agent) -> Tensor:
        return agent.rew_end_model(batch_of(recorded["rew_end_model"]["loss"]))[0]

    def actor_critic(agent: Agent) -> Tensor:
        return agent.actor_critic(make_rollout(batch_of(recorded["rew_end_model"]["loss"]), agent))[0]

    return {"denoiser": denoiser, "rew_end_model": rew_end_model, "actor_critic": actor_critic}


def make_rollout(batch: Batch, agent: Agent) -> Rollout:
    dice = torch.Generator().manual_seed(0)
    obs, act = batch.obs.movedim(1, 0), batch.act.T.contiguous()
    t, b = act.shape
    dead = torch.rand(t, b, generator=dice) < 0.3
    history = torch.randint(256, (t, b, 2, *obs.shape[2:]), generator=dice, dtype=torch.uint8)
    mask = torch.rand(t, b, 2, generator=dice) < 0.8
    returns, hx_cx = torch.randn(t, b, generator=dice), agent.actor_critic.initial_memory(b)
    return Rollout(obs, act, returns, hx_cx, dead, history, mask)


def loss_and_gradient(module: nn.Module, loss: Tensor) -> tuple[float, Tensor]:
    module.zero_grad()
    loss.backward()
    return float(loss.detach()), torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def assert_agree(name: str, plain: Agent, fast: Agent, loss: Callable[[Agent], Tensor], precision: torch.dtype) -> None:
    expected, gradient = loss_and_gradient(getattr(plain, name), loss(plain))
    with autocast(CPU, precision):
        value = loss(fast)
    value, fast_gradient = loss_and_gradient(getattr(fast, name), value)
    assert value == pytest.approx(expected, rel=LOSS_TOLERANCE)
    assert float(nn.functional.cosine_similarity(gradient, fast_gradient, dim=0)) > GRADIENT_ANGLE
    assert float(fast_gradient.norm() / gradient.norm()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["denoiser", "rew_end_model", "actor_critic"])
def test_bf16_and_channels_last(recorded: dict[str, Any], agent: Agent, name: str) -> None:
    fast = copy.deepcopy(agent).to(memory_format=torch.channels_last)
    assert_agree(name, agent, fast, losses(recorded)[name], torch.bfloat16)


@pytest.mark.slow
def test_compiled_gradients_reach_every_level() -> None:
    """They did not, in bf16, through `interpolate`: losses looked right, and half of the U-Net learned nothing."""
    if shutil.which("g++") is None:
        pytest.skip("compilation on the CPU needs a C++ compiler")
    torch.manual_seed(0)
    plain = InnerModel(InnerModelConfig(3, 1, 16, (1, 1), (16, 16), (0, 0), 4))
    for parameter in plain.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    fast = copy.deepcopy(plain)
    assert compile_networks([fast], True, CPU, is_first=True)
    given = (torch.randn(2, 3, 16, 16), torch.randn(2), torch.randn(2, 3, 16, 16), torch.randint(4, (2, 1)))
    gradients = []
    for network in (plain, fast):
        with autocast(CPU, torch.bfloat16):
            loss = network(*given).float().pow(2).mean()
        loss_and_gradient(network, loss)
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gradient in gradients[0].items():
        assert float(gradients[1][name].norm() / gradient.norm()) == pytest.approx(1, abs=0.1), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rew_end_model", "actor_critic"])
def test_compiled(recorded: dict[str, Any], agent: Agent, name: str) -> None:
    if shutil.which("g++") is None:
        pytest.skip("compilation on the CPU needs a C++ compiler")
    fast = copy.deepcopy(agent).to(memory_format=torch.channels_last)
    assert compile_networks([getattr(fast, name).encoder], True, CPU, is_first=True)
    assert_agree(name, agent, fast, losses(recorded)[name], torch.bfloat16)
