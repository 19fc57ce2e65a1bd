"""The recorded numbers of the published system on a GPU, in float32 without TF32 and in bfloat16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from algorithms.diamond.agent import DiamondAgent
from models.diffusion import DiffusionSampler, DiffusionSamplerConfig, SigmaDistributionConfig
from run.compiled import compile_networks
from run.device import autocast
from test_reference import GREY_LEVEL, agent_config, batch_of, read_recorded, replaying

pytestmark = pytest.mark.gpu

OUTPUT_ERROR = {torch.float32: 1e-4, torch.bfloat16: 0.05}
"""Of outputs and gradients, relative to their norm: convolutions sum in another order, or round to 8 bits."""
LOSS_ERROR = {torch.float32: 1e-4, torch.bfloat16: 0.02}
SAMPLE_ERROR = {torch.float32: 0.01, torch.bfloat16: 0.25}
"""Every step of the sampler adds its own; bfloat16 on a CPU is 0.13 from the recording of most steps."""
WRONG_PIXELS = {torch.float32: 1e-2, torch.bfloat16: 1.0}
"""The share of pixels that may round to a neighbouring grey level in one denoised frame."""

PRECISIONS = pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
Backends = Callable[[torch.dtype], None]


@pytest.fixture(scope="module")
def recorded(reference_dir: Path) -> dict[str, Any]:
    return read_recorded(reference_dir / "atari_small.pt")


@pytest.fixture
def agent(recorded: dict[str, Any], gpu: torch.device) -> DiamondAgent:
    levels = SigmaDistributionConfig(**recorded["denoiser"]["loss"]["sigma_distribution"])
    agent = DiamondAgent(agent_config(recorded["config"]), noise=levels).eval()
    agent.load_state_dict(recorded["state_dict"])
    return agent.to(gpu, memory_format=torch.channels_last)


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Compare by the norm of the difference, relative to the norm."""
    assert float((ours.cpu().float() - theirs).norm()) <= tolerance * float(theirs.norm())


def sent(draws: list[Tensor], device: torch.device) -> Callable[..., Tensor]:
    return replaying([draw.to(device) for draw in draws])


@PRECISIONS
@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_denoiser_loss_and_gradients(
    agent: DiamondAgent,
    recorded: dict[str, Any],
    gpu: torch.device,
    backends: Backends,
    precision: torch.dtype,
    is_compiled: bool,
) -> None:
    backends(precision)
    given, denoiser = recorded["denoiser"]["loss"], agent.denoiser
    if is_compiled:
        assert compile_networks([denoiser.network_to_compile], True, gpu, is_first=False)
    steps = zip(given["sigma_log_normal_draws"], given["offset_draws"], given["noise_draws"], strict=True)
    with autocast(gpu, precision):
        loss, _ = denoiser(batch_of(given).to(gpu), sent([draw for step in steps for draw in step], gpu))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(given["loss"]), rel=LOSS_ERROR[precision])
    gradients = {name: parameter.grad for name, parameter in denoiser.named_parameters()}
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert_near(norm, given["grad_norm"], OUTPUT_ERROR[precision])
    if precision == torch.float32:
        # An autoregressive step feeds a quantised frame back, of which single pixels may differ.
        for name, gradient in given["grads"].items():
            assert_near(gradients[name], gradient, 10 * OUTPUT_ERROR[precision])


@PRECISIONS
@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_sampler(
    agent: DiamondAgent,
    recorded: dict[str, Any],
    gpu: torch.device,
    backends: Backends,
    precision: torch.dtype,
    is_compiled: bool,
) -> None:
    backends(precision)
    if is_compiled:
        assert compile_networks([agent.denoiser.network_to_compile], True, gpu, is_first=False)
    for given in recorded["denoiser"]["sampler"]:
        sampler = DiffusionSampler(agent.denoiser, DiffusionSamplerConfig(**given["config"]))
        randn = sent([given["initial_noise"], *given["churn_noise"]], gpu)
        with autocast(gpu, precision):
            frame, _ = sampler.sample(given["obs"].to(gpu), given["act"].to(gpu), randn)
        off = (frame.cpu() - given["next_obs"]).abs()
        assert (off > GREY_LEVEL / 2).float().mean() <= WRONG_PIXELS[precision]
        assert_near(frame, given["next_obs"], SAMPLE_ERROR[precision])


@PRECISIONS
@torch.no_grad()
def test_rewards_ends_and_policy(
    agent: DiamondAgent, recorded: dict[str, Any], gpu: torch.device, backends: Backends, precision: torch.dtype
) -> None:
    backends(precision)
    tolerance, given = OUTPUT_ERROR[precision], recorded["rew_end_model"]["forward"]
    obs, act = given["obs"].to(gpu), given["act"].to(gpu)
    with autocast(gpu, precision):
        logits_rew, logits_end, (hx, cx) = agent.rew_end_model.predict(obs[:, :-1], act, obs[:, 1:])
    for ours, name in ((logits_rew, "logits_rew"), (logits_end, "logits_end"), (hx, "hx"), (cx, "cx")):
        assert_near(ours, given[name], tolerance)
    given = recorded["actor_critic"]["forward"]
    hx_cx = agent.actor_critic.initial_memory(given["obs"].size(0))
    for step, theirs in enumerate(given["steps"]):
        with autocast(gpu, precision):
            logits, value, hx_cx = agent.actor_critic.predict(given["obs"][:, step].to(gpu), hx_cx)
        for ours, name in ((logits, "logits_act"), (value, "val"), (hx_cx[0], "hx"), (hx_cx[1], "cx")):
            assert_near(ours.flatten(), theirs[name].flatten(), tolerance)
