"""The recorded numbers of the published systems on a GPU, in float32 without TF32 and in bfloat16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import test_reference_dreamer as dreamer
import test_reference_kitchen as kitchen
from algorithms.diamond.agent import DiamondAgent
from files import load_tensors
from models.diffusion import (
    DiffusionSampler,
    DiffusionSamplerConfig,
    LinearScheduleConfig,
    RespacedSamplerConfig,
    SigmaDistributionConfig,
)
from models.dreamer import Rows
from run.compiled import compile_networks
from run.device import autocast
from test_reference import (
    GREY_LEVEL,
    agent_config,
    batch_of,
    read_recorded,
    replaying,
    two_stage_batch,
    two_stage_config,
)

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
Recorded = dict[str, Any]


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


@pytest.fixture(scope="module")
def two_stages(reference_dir: Path) -> Recorded:
    return read_recorded(reference_dir / "csgo_small.pt")


@pytest.fixture
def two_stage_agent(two_stages: Recorded, gpu: torch.device) -> DiamondAgent:
    levels = SigmaDistributionConfig(**two_stages["denoiser"]["loss"]["sigma_distribution"])
    agent = DiamondAgent(two_stage_config(two_stages["config"]), levels, levels).eval()
    agent.load_state_dict(two_stages["state_dict"])
    return agent.to(gpu, memory_format=torch.channels_last)


@PRECISIONS
@pytest.mark.parametrize("component", ["denoiser", "upsampler"])
def test_two_stage_losses(
    two_stage_agent: DiamondAgent,
    two_stages: Recorded,
    gpu: torch.device,
    backends: Backends,
    precision: torch.dtype,
    component: str,
) -> None:
    backends(precision)
    given = two_stages[component]["loss"]
    with autocast(gpu, precision):
        loss, _ = getattr(two_stage_agent, component)(two_stage_batch(given).to(gpu), sent(given["draws"], gpu))
    assert float(loss.detach()) == pytest.approx(float(given["loss"]), rel=LOSS_ERROR[precision])


@PRECISIONS
@pytest.mark.parametrize("component", ["denoiser", "upsampler"])
def test_two_stage_samplers(
    two_stage_agent: DiamondAgent,
    two_stages: Recorded,
    gpu: torch.device,
    backends: Backends,
    precision: torch.dtype,
    component: str,
) -> None:
    backends(precision)
    given, network = two_stages[component]["sampler"], getattr(two_stage_agent, component)
    if component == "denoiser":
        inputs, draws = two_stages["denoiser"]["forward"], given["conditioning_noise"]
        obs, act = inputs["obs"].to(gpu), inputs["act"].to(gpu)
    else:
        enlarged, draws = network.enlarge(given["low_res"].to(gpu))[:, None], given["churn_noise"]
        obs, act = torch.cat((given["previous_full_res"].to(gpu), enlarged), dim=1), None
    sampler = DiffusionSampler(network, DiffusionSamplerConfig(**given["config"]))
    with autocast(gpu, precision):
        frame, _ = sampler.sample(obs, act, sent([given["initial_noise"], *draws], gpu))
    off = (frame.cpu() - given["next_obs"]).abs()
    assert (off > GREY_LEVEL / 2).float().mean() <= WRONG_PIXELS[precision]
    assert_near(frame, given["next_obs"], SAMPLE_ERROR[precision])


@pytest.fixture(scope="module")
def dreamt(reference_dir: Path) -> Recorded:
    path = reference_dir / "dreamer_small.pt"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return load_tensors(path)


def test_a_whole_update_of_dreamer(dreamt: Recorded, gpu: torch.device, backends: Backends) -> None:
    """In float32: bfloat16 would sample other latents."""
    backends(torch.float32)
    agent, rows = dreamer.make_agent(dreamt).to(gpu), dreamer.rows_of(dreamt["batch"])
    learner, given = dreamer.make_learner(agent, dreamt).to(gpu), dreamt["update"]
    loss, _, deter, index = learner(Rows(*[value.to(gpu) for value in vars(rows).values()]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(given["history"][0]["loss"], rel=LOSS_ERROR[torch.float32])
    assert torch.equal(index.cpu(), given["replay_stoch_first"].argmax(dim=-1))
    assert_near(deter, given["replay_deter_first"], OUTPUT_ERROR[torch.float32])
    gradients = [each.grad for each in agent.parameters() if each.grad is not None]
    norm = torch.stack([each.norm() for each in gradients]).norm()
    assert float(norm) == pytest.approx(float(given["history"][0]["grad_norm"]), rel=10 * OUTPUT_ERROR[torch.float32])


@pytest.fixture(scope="module")
def predicted(reference_dir: Path) -> Recorded:
    path = reference_dir / "kitchen_small.pt"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return load_tensors(path)


@PRECISIONS
def test_kitchen_losses_and_gradients(
    predicted: Recorded, gpu: torch.device, backends: Backends, precision: torch.dtype
) -> None:
    backends(precision)
    for whole in predicted["unet"]:
        given, denoiser = whole["loss"], kitchen.unet_denoiser(whole, LinearScheduleConfig())
        denoiser = denoiser.to(gpu, memory_format=torch.channels_last)
        draws = [torch.zeros(*given["noise"].shape[:2], 1, 1), given["noise"]]
        with autocast(gpu, precision):
            batch, steps = kitchen.pairs_of(given).to(gpu), kitchen.replaying_steps(given["t"])
            loss, _ = denoiser(batch, sent(draws, gpu), steps)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(float(given["loss"]), rel=LOSS_ERROR[precision])
        gradients = {name: each.grad for name, each in denoiser.inner_model.named_parameters()}
        norm = torch.stack([each.norm() for each in gradients.values()]).norm()
        assert_near(norm, torch.as_tensor(given["grad_norm"]), OUTPUT_ERROR[precision])
        if precision == torch.float32:
            # All together: keys have biases whose gradients are nothing but rounding.
            ours, theirs = [
                torch.cat([every[name].flatten() for name in given["grads"]])
                for every in ({name: each.cpu() for name, each in gradients.items()}, given["grads"])
            ]
            assert_near(ours, theirs, 10 * OUTPUT_ERROR[precision])


def test_kitchen_chains(predicted: Recorded, gpu: torch.device, backends: Backends) -> None:
    """In float32: errors of bfloat16 add up over hundreds of steps."""
    backends(torch.float32)
    for given in [each for each in predicted["chain"] if not each["rule"].startswith("jumps")]:
        config = kitchen.SCHEDULES[given["schedule"]](given["num_steps"])
        denoiser = kitchen.unet_denoiser(predicted["unet"][given["unet"]], config)
        denoiser = denoiser.to(gpu, memory_format=torch.channels_last)
        sampler = DiffusionSampler(denoiser, RespacedSamplerConfig(len(given["timesteps"])))
        randn = sent([given["start"], *given["noises"]], gpu)
        frame, _ = sampler.sample(given["current"][:, None].to(gpu), None, randn)
        assert_near(frame, given["out"], SAMPLE_ERROR[torch.float32])
