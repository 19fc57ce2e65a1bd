"""Every recorded number of the published DDPMs, from any folder of the same layout (`--reference-dir`)."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from breakout_ddpm import ActorCritic, WorldModel, fill_by_recipe
from data import Batch, Dataset, Episode, with_stride
from errors import UserError
from files import load_tensors
from models.diffusion import (
    ConditionalUNet,
    ConditionalUNetConfig,
    CosineScheduleConfig,
    Denoiser,
    DenoiserConfig,
    DiffusionSampler,
    InnerModelConfig,
    LinearScheduleConfig,
    RespacedSamplerConfig,
    Schedule,
)
from models.diffusion.conditional_unet import embed_step
from models.diffusion.samplers import ancestral
from models.diffusion.schedules import respaced_steps
from test_reference import assert_close, assert_same_frames, replaying

Recorded = dict[str, Any]
SCHEDULES = {"linear": LinearScheduleConfig, "cosine": CosineScheduleConfig}
SCHEDULE_ERROR = {"linear": 1e-6, "cosine": 1e-4}
CHAIN_ERROR = 1e-3


@pytest.fixture(scope="module")
def recorded(reference_dir: Path) -> Recorded:
    path = reference_dir / "kitchen_small.pt"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return load_tensors(path)


def unet_config(config: Recorded) -> ConditionalUNetConfig:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    channels, both = given.pop("out_img_channels"), given.pop("in_img_channels")
    assert both == 2 * channels
    return ConditionalUNetConfig(img_channels=channels, **given)


def unet_denoiser(given: Recorded, schedule: Any) -> Denoiser:
    """The recorded network, that predicts noise of this schedule."""
    config = unet_config(given["config"])
    denoiser = Denoiser(DenoiserConfig(config, None, 0.0, None, None, "eps", schedule, "none")).eval()
    denoiser.inner_model.load_state_dict(given["state_dict"])
    return denoiser


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """The noisy frame, and the current one."""
    return x[:, : x.size(1) // 2], x[:, x.size(1) // 2 :]


def level(schedule: Schedule, t: int) -> float:
    """The noise level of a step; 0 for the step before the first one."""
    return float(schedule.sigmas[t]) if t >= 0 else 0.0


def kept(schedule: Schedule, t: int) -> float:
    return float(schedule.alphas_cumprod[t]) ** 0.5 if t >= 0 else 1.0


def test_schedules(recorded: Recorded) -> None:
    for name, of_lengths in recorded["schedules"].items():
        for num_steps, given in of_lengths.items():
            ours = Schedule(SCHEDULES[name](int(num_steps)))
            found = {
                "betas": ours.betas,
                "alphas": 1 - ours.betas,
                "alphas_cumprod": ours.alphas_cumprod,
                "sqrt_alphas_cumprod": ours.alphas_cumprod**0.5,
                "sqrt_one_minus_alphas_cumprod": (1 - ours.alphas_cumprod) ** 0.5,
                "posterior_variance": ours.posterior_variance,
            }
            assert set(found) == set(given)
            for quantity, values in given.items():
                error = SCHEDULE_ERROR[name]
                np.testing.assert_allclose(found[quantity], values.numpy(), atol=error, rtol=0, err_msg=quantity)


def test_embeddings(recorded: Recorded) -> None:
    for given in recorded["embedding"]:
        assert_close(embed_step(given["t"], given["dim"]), given["out"])


def test_noising(recorded: Recorded) -> None:
    for given in recorded["q_sample"]:
        schedule = SCHEDULES[given["schedule"]](given["num_steps"])
        network = InnerModelConfig(given["x0"].size(1), 1, 8, (1,), (8,), (0,), 1)
        denoiser = Denoiser(DenoiserConfig(network, None, 0.0, parameterisation="eps", schedule=schedule))
        sigma, no_offset = denoiser.sigmas[given["t"]], torch.zeros(*given["x0"].shape[:2], 1, 1)
        noisy = denoiser.parameterisation.add_noise(given["x0"], sigma, replaying([no_offset, given["noise"]]))
        assert_close(denoiser.parameterisation.conditioners(sigma).network_input(noisy), given["noisy"])


@torch.no_grad()
def test_networks(recorded: Recorded) -> None:
    for given in recorded["unet"]:
        network = ConditionalUNet(unet_config(given["config"])).eval()
        assert {name: value.shape for name, value in network.state_dict().items()} == {
            name: value.shape for name, value in given["state_dict"].items()
        }
        assert sum(each.numel() for each in network.parameters()) == given["num_parameters"]
        network.load_state_dict(given["state_dict"])
        assert_close(network.embed(given["forward"]["t"]), given["forward"]["time_embedding"])
        for kind in ("forward", "forward_other_size"):
            noisy, current = split(given[kind]["x"])
            assert_close(network(noisy, given[kind]["t"], current), given[kind]["out"])
        # What the published demo shows as the next frame.
        step = given["demo_step"]
        output = network(step["start"], torch.full((len(step["start"]),), step["t"]), step["current"])
        assert_close(step["start"] - output, step["predicted"])


def pairs_of(given: Recorded) -> Batch:
    """Pairs of frames, as a batch of segments of two steps. Their bytes are not needed: frames are in [-1, 1]."""
    obs = torch.stack((given["current"], given["future"]), dim=1)
    blank = torch.zeros(obs.shape[:2])
    act = torch.zeros(*obs.shape[:2], 0)
    return Batch(obs, act, blank, blank.byte(), blank.byte(), torch.ones_like(blank, dtype=torch.bool), obs[:, 0])


def replaying_steps(t: Tensor) -> Callable[..., Tensor]:
    """A stand-in for `torch.randint` that returns recorded steps."""

    def randint(high: int, size: tuple[int], device: torch.device) -> Tensor:
        assert (tuple(t.shape), bool(t.max() < high)) == (size, True)
        return t.to(device)

    return randint


def test_losses_and_gradients(recorded: Recorded) -> None:
    for whole in recorded["unet"]:
        given, denoiser = whole["loss"], unet_denoiser(whole, LinearScheduleConfig())
        no_offset = torch.zeros(*given["noise"].shape[:2], 1, 1)
        loss, _ = denoiser(pairs_of(given), replaying([no_offset, given["noise"]]), replaying_steps(given["t"]))
        loss.backward()
        torch.testing.assert_close(loss, given["loss"], rtol=1e-5, atol=0)
        gradients = {name: parameter.grad for name, parameter in denoiser.inner_model.named_parameters()}
        norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        assert_close(norm, given["grad_norm"])
        for name, gradient in given["grads"].items():
            assert_close(gradients[name], gradient)
        sigma = denoiser.sigmas[given["t"]]
        noisy = given["noisy"] / denoiser.parameterisation.conditioners(sigma).c_in
        with torch.no_grad():
            scales = denoiser.parameterisation.conditioners(sigma)
            assert_close(denoiser.network_output(noisy, scales, given["current"], None), given["predicted_noise"])
            denoised = denoiser.denoise(noisy, sigma, given["current"][:, None], None)
        torch.testing.assert_close(denoised / 2 + 0.5, whole["reconstruction"], atol=CHAIN_ERROR, rtol=0)


def test_steps_back(recorded: Recorded) -> None:
    for given in recorded["p_sample"]:
        schedule, t = Schedule(SCHEDULES[given["schedule"]](given["num_steps"])), given["t"]
        out = step_back(schedule, t, t - 1, given["x"], given["predicted_noise"], given["noise"])
        assert_close(out, given["out"])


def step_back(schedule: Schedule, t: int, before: int, x: Tensor, predicted: Tensor, noise: Tensor) -> Tensor:
    """One ancestral step, in the published form: frames scaled by the square root of ᾱ."""
    sigma = level(schedule, t)

    def denoise(noisy: Tensor, _: Tensor) -> Tensor:
        return (noisy - sigma * predicted).clamp(-1, 1)

    path = ancestral(denoise, x / kept(schedule, t), [sigma, level(schedule, before)], replaying([noise]))
    return path[-1] * kept(schedule, before)


@torch.no_grad()
def test_chains(recorded: Recorded) -> None:
    for given in recorded["chain"]:
        config = SCHEDULES[given["schedule"]](given["num_steps"])
        denoiser, schedule = unet_denoiser(recorded["unet"][given["unet"]], config), Schedule(config)
        times = given["timesteps"].tolist()
        if given["rule"].startswith("jumps"):
            found = wrong_jumps(denoiser.inner_model, schedule, times, given)
        else:
            assert times == respaced_steps(len(schedule), len(times))
            sampler = DiffusionSampler(denoiser, RespacedSamplerConfig(len(times)))
            randn = replaying([given["start"], *given["noises"]])
            found = sampler.sample(given["current"][:, None], None, randn)[1][1:]
        # The last one is quantised, where our samples are frames.
        for ours, theirs in zip(found[:-1], given["trajectory"], strict=False):
            torch.testing.assert_close(ours, theirs, atol=CHAIN_ERROR, rtol=0)
        torch.testing.assert_close(found[-1], given["out"], atol=CHAIN_ERROR + 2 / 255, rtol=0)


def wrong_jumps(network: ConditionalUNet, schedule: Schedule, times: list[int], given: Recorded) -> list[Tensor]:
    """The published Breakout's rule, which takes a step of one for a jump of many."""
    x, found = given["start"], []
    for t, noise in zip(times, [*given["noises"], None], strict=True):
        predicted = network(x, torch.full((len(x),), t), given["current"])
        x = step_back(schedule, t, t - 1, x, predicted, noise)
        found.append(x)
    return found


def test_breakout_networks(recorded: Recorded, reference_dir: Path) -> None:
    given = recorded["breakout"]
    keys = json.loads((reference_dir / "checkpoint_keys_breakout_ddpm.json").read_text())
    names = [name for name in keys["world_model_state"] if name not in ("betas", "alphas", "alphas_cumprod")]
    frames, actions = given["world_model"], given["num_actions"]
    channels = frames["noisy"].size(1)
    world = WorldModel(given["wm_hidden_dim"], channels, actions)
    policy = ActorCritic(given["ac_hidden_dim"], channels, actions)
    counts = [sum(each.numel() for each in network.parameters()) for network in (world, policy)]
    assert counts == given["num_parameters"]
    fill_by_recipe(world, names)
    fill_by_recipe(policy, list(keys["actor_critic_state"]))
    i = torch.arange(2 * channels * 64 * 64, dtype=torch.int64)
    obs = ((2654435761 * i % 2**32).double() / 2**31 - 1).float().view(2, channels, 64, 64)
    with torch.no_grad():
        assert_close(world(frames["noisy"], frames["previous"], frames["action"], frames["t"]), frames["out"])
        for ours, name in zip(policy(obs), ("logits", "value"), strict=True):
            assert_close(ours, given["actor_critic"][name])


@pytest.fixture(scope="module")
def branch(recorded: Recorded) -> Denoiser:
    """The Atari denoiser that predicts noise."""
    given = dict(recorded["diamond_ddpm"]["config"])
    offset, num_steps = given.pop("sigma_offset_noise"), given.pop("num_train_timesteps")
    network = InnerModelConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})
    schedule = LinearScheduleConfig(num_steps)
    denoiser = Denoiser(DenoiserConfig(network, None, offset, parameterisation="eps", schedule=schedule)).eval()
    weights = recorded["diamond_ddpm"]["state_dict"]
    own = {name.replace("noise_model.", "inner_model."): value for name, value in weights.items()}
    assert {name: own[name].shape for name in denoiser.state_dict()} == {
        name: value.shape for name, value in denoiser.state_dict().items()
    }
    denoiser.load_state_dict({name: own[name] for name in denoiser.state_dict()})
    return denoiser


def test_the_branch_predicts_noise(branch: Denoiser, recorded: Recorded) -> None:
    given = recorded["diamond_ddpm"]["forward"]
    scales = branch.parameterisation.conditioners(branch.sigmas[given["t"]])
    with torch.no_grad():
        output = branch.network_output(given["noisy"] / scales.c_in, scales, given["obs"].flatten(1, 2), given["act"])
    assert_close(output, given["predicted_noise"])


def test_the_loss_of_the_branch(branch: Denoiser, recorded: Recorded) -> None:
    given = recorded["diamond_ddpm"]["loss"]
    blank = torch.zeros(given["mask_padding"].shape)
    flags = blank.byte()
    batch = Batch(given["obs"], given["act"], blank, flags, flags, given["mask_padding"], given["obs"][:, 0])
    randn = replaying([given["offset_draw"], given["noise_draw"]])
    with torch.no_grad():
        loss, _ = branch(batch, randn, replaying_steps(given["t"]))
    torch.testing.assert_close(loss, given["loss"], rtol=1e-5, atol=0)


def test_the_samples_of_the_branch(branch: Denoiser, recorded: Recorded) -> None:
    for given in recorded["diamond_ddpm"]["sampler"]:
        assert given["timesteps"] == respaced_steps(1000, given["num_steps"])
        sampler = DiffusionSampler(branch, RespacedSamplerConfig(given["num_steps"]))
        sample, trajectory = sampler.sample(given["obs"], given["act"], replaying(given["draws"]))
        assert_same_frames(sample, given["out"])
        for ours, theirs in zip(trajectory[:-1], given["trajectory"], strict=False):
            torch.testing.assert_close(ours, theirs, atol=CHAIN_ERROR, rtol=0)


def test_names_and_shapes_of_the_published_kitchen(reference_dir: Path) -> None:
    keys = json.loads((reference_dir / "checkpoint_keys_kitchen.json").read_text())
    with torch.device("meta"):
        grey, colour = (ConditionalUNet(ConditionalUNetConfig(channels)) for channels in (1, 3))
    assert {name: list(value.shape) for name, value in grey.state_dict().items()} == keys
    assert [sum(each.numel() for each in network.parameters()) for network in (grey, colour)] == [2_017_953, 2_019_683]


def test_the_size_of_the_published_class() -> None:
    with torch.device("meta"):
        network = ConditionalUNet(ConditionalUNetConfig(3, 1, 64, (1, 2, 3, 4), 2, (120, 60), 256, 1024, 0.1, 120))
    assert sum(each.numel() for each in network.parameters()) == 19_486_595


def test_pairs_are_the_published_ones_that_look_k_steps_ahead(recorded: Recorded, tmp_path: Path) -> None:
    """The published clamp at an episode's end makes further pairs, of frames that are closer: they are left out."""
    for number, given in enumerate(recorded["pairs"]):
        k, cut = given["k"], given["last_completion"]
        count = given["num_frames"] if cut is None else cut + 1
        wanted = [(first, second) for first, second, _ in given["pairs"] if second - first == k]
        frames = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1)
        blank = torch.zeros(count)
        dataset = Dataset(tmp_path / str(number))
        dataset.add_episode(Episode(frames, torch.zeros(count, 0), blank, blank.byte(), blank.byte()))
        dataset.save_info()
        opened = Dataset.open(dataset.directory)
        if not wanted:
            with pytest.raises(UserError, match=f"static_dataset.stride={k} is longer than every episode"):
                with_stride(opened, k)
            continue
        marks = [episode.obs.flatten().tolist() for episode in with_stride(opened, k).episodes()]
        assert sorted(pair for each in marks for pair in itertools.pairwise(each)) == wanted
