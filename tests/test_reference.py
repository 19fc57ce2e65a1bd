"""Every recorded number of the published system, from any folder of the same layout (`--reference-dir`)."""

import ast
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agent import AgentConfig
from algorithms.diamond.agent import DiamondAgent
from conftest import PROJECT
from data import Batch, Dataset, Start, Step, to_bytes
from envs import AtariConfig, make_env
from files import load_tensors
from models.actor_critic import ActorCriticConfig, ActorCriticLossConfig
from models.diffusion import (
    DenoiserConfig,
    DiffusionSampler,
    DiffusionSamplerConfig,
    InnerModelConfig,
    SigmaDistributionConfig,
    build_sigmas,
)
from models.rew_end_model import RewEndModelConfig
from rl.returns import lambda_returns
from rl.rollout import Rollouts
from run.config import build
from run.settings import load_yaml

ABSOLUTE = 1e-4
GREY_LEVEL = 2 / 255


@pytest.fixture(scope="module")
def recorded(reference_dir: Path) -> dict[str, Any]:
    return read_recorded(reference_dir / "atari_small.pt")


def read_recorded(path: Path) -> dict[str, Any]:
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return load_tensors(path)


@pytest.fixture(scope="module")
def agent(recorded: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> DiamondAgent:
    """The recorded agent, loaded from a checkpoint file, as a user would."""
    levels = SigmaDistributionConfig(**recorded["denoiser"]["loss"]["sigma_distribution"])
    agent = DiamondAgent(agent_config(recorded["config"]), noise=levels).eval()
    path = tmp_path_factory.mktemp("reference") / "agent.pt"
    torch.save(recorded["state_dict"], path)
    agent.load(path)
    return agent


def agent_config(config: dict[str, Any]) -> AgentConfig:
    denoiser = dict(config["denoiser"])
    inner_model = InnerModelConfig(**denoiser.pop("inner_model"))
    return AgentConfig(
        DenoiserConfig(inner_model=inner_model, **denoiser),
        RewEndModelConfig(**config["rew_end_model"]),
        ActorCriticConfig(**config["actor_critic"]),
    )


def replaying(draws: list[Tensor]) -> Callable[..., Tensor]:
    """A stand-in for `torch.randn` that hands out recorded draws, in order, each once."""
    remaining = iter(draws)

    def randn(*shape: int, device: torch.device) -> Tensor:
        draw = next(remaining)
        assert tuple(draw.shape) == shape
        return draw

    return randn


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=ABSOLUTE, rtol=0)


def assert_same_frames(ours: Tensor, theirs: Tensor) -> None:
    """Compare quantised frames: equal, except for single pixels that round to a neighbouring level."""
    off = (ours - theirs).abs()
    assert off.max() <= GREY_LEVEL + 1e-6
    assert (off > 1e-4).float().mean() < 1e-3


def test_conditioners(agent: DiamondAgent, recorded: dict[str, Any]) -> None:
    scales = agent.denoiser.parameterisation.conditioners(recorded["denoiser"]["sigma"])
    for name in ("c_in", "c_out", "c_skip", "c_noise"):
        assert_close(getattr(scales, name).flatten(), recorded["denoiser"][name])


@torch.no_grad()
def test_denoiser_forward(agent: DiamondAgent, recorded: dict[str, Any]) -> None:
    given, denoiser = recorded["denoiser"]["forward"], agent.denoiser
    scales, obs = denoiser.parameterisation.conditioners(given["sigma"]), given["obs"].flatten(1, 2)
    output = denoiser.network_output(given["noisy_next_obs"], scales, obs, given["act"])
    assert_close(output, given["model_output"])
    assert_close(scales.denoised(given["noisy_next_obs"], output), given["denoised_before_quantization"])
    denoised = denoiser.denoise(given["noisy_next_obs"], given["sigma"], given["obs"], given["act"])
    assert_same_frames(denoised, given["denoised"])


def test_denoiser_loss_and_gradients(agent: DiamondAgent, recorded: dict[str, Any]) -> None:
    given, denoiser = recorded["denoiser"]["loss"], agent.denoiser
    steps = zip(given["sigma_log_normal_draws"], given["offset_draws"], given["noise_draws"], strict=True)
    randn = replaying([draw for step in steps for draw in step])
    denoiser.zero_grad()
    loss, metrics = denoiser(batch_of(given), randn)
    loss.backward()
    torch.testing.assert_close(loss, given["loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(metrics["loss_denoising"], given["loss"], rtol=1e-5, atol=0)
    gradients = {name: parameter.grad for name, parameter in denoiser.named_parameters()}
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert_close(norm, given["grad_norm"])
    for name, gradient in given["grads"].items():
        assert_close(gradients[name], gradient)


def test_sigmas(recorded: dict[str, Any]) -> None:
    for key, theirs in recorded["denoiser"]["sigmas"].items():
        steps, sigma_min, sigma_max, rho = ast.literal_eval(key) if isinstance(key, str) else key
        ours = build_sigmas(DiffusionSamplerConfig(steps, sigma_min, sigma_max, rho), torch.device("cpu"))
        assert_close(ours, theirs)


def test_sampler(agent: DiamondAgent, recorded: dict[str, Any]) -> None:
    for given in recorded["denoiser"]["sampler"]:
        sampler = DiffusionSampler(agent.denoiser, DiffusionSamplerConfig(**given["config"]))
        randn = replaying([given["initial_noise"], *given["churn_noise"]])
        next_obs, trajectory = sampler.sample(given["obs"], given["act"], randn)
        assert_same_frames(next_obs, given["next_obs"])
        # A pixel on the edge between two grey levels in one denoised frame moves all later points a little.
        off = (torch.stack(trajectory) - given["trajectory"]).abs()
        assert off.max() <= GREY_LEVEL * sampler.config.num_steps_denoising
        assert (off > ABSOLUTE).float().mean() < 1e-3


@torch.no_grad()
def test_rew_end_model_forward(agent: DiamondAgent, recorded: dict[str, Any]) -> None:
    given, model = recorded["rew_end_model"]["forward"], agent.rew_end_model
    obs, act = given["obs"], given["act"]
    logits_rew, logits_end, (hx, cx) = model.predict(obs[:, :-1], act, obs[:, 1:])
    for ours, name in ((logits_rew, "logits_rew"), (logits_end, "logits_end"), (hx, "hx"), (cx, "cx")):
        assert_close(ours, given[name])


@torch.no_grad()
def test_rew_end_model_carries_its_memory(agent: DiamondAgent, recorded: dict[str, Any]) -> None:
    given, model = recorded["rew_end_model"]["forward"], agent.rew_end_model
    obs, act = given["obs"], given["act"]
    *_, hx_cx = model.predict(obs[:, :-1], act, obs[:, 1:])
    later = given["second_call"]
    transition = [later.get("obs", obs[:, :1]), later.get("act", act[:, :1]), later.get("next_obs", obs[:, 1:2])]
    logits_rew, logits_end, (hx, cx) = model.predict(*transition, hx_cx)
    for ours, name in ((logits_rew, "logits_rew"), (logits_end, "logits_end"), (hx, "hx"), (cx, "cx")):
        assert_close(ours, later[name])


def test_rew_end_model_loss(agent: DiamondAgent, recorded: dict[str, Any]) -> None:
    given = recorded["rew_end_model"]["loss"]
    loss, metrics = agent.rew_end_model(batch_of(given))
    torch.testing.assert_close(loss, given["loss_total"], rtol=1e-5, atol=0)
    for name in ("loss_rew", "loss_end", "loss_total"):
        torch.testing.assert_close(metrics[name], given[name], rtol=1e-5, atol=0)
    for head in ("rew", "end"):
        assert metrics[f"confusion_{head}"].long().tolist() == given[f"confusion_matrix_{head}"].tolist()


@torch.no_grad()
def test_actor_critic_forward(agent: DiamondAgent, recorded: dict[str, Any]) -> None:
    given, model = recorded["actor_critic"]["forward"], agent.actor_critic
    hx_cx = model.initial_memory(given["obs"].size(0))
    for step, theirs in enumerate(given["steps"]):
        logits, value, hx_cx = model.predict(given["obs"][:, step], hx_cx)
        ours = {"logits_act": logits, "val": value, "hx": hx_cx[0], "cx": hx_cx[1]}
        assert theirs.keys() == ours.keys()
        for name in ours:
            assert_close(ours[name].flatten(), theirs[name].flatten())


def test_lambda_returns(recorded: dict[str, Any]) -> None:
    for given in recorded["actor_critic"]["lambda_returns"]:
        names = ("rew", "end", "trunc", "val_bootstrap")
        rew, end, trunc, val_bootstrap = [given[name].T for name in names]
        ours = lambda_returns(rew, end.bool(), trunc.bool(), val_bootstrap, given["gamma"], given["lambda_"])
        assert_close(ours.T, given["lambda_returns"])


@pytest.mark.parametrize("entry", ["imagined", "real"])
def test_actor_critic_updates(reference_dir: Path, recorded: dict[str, Any], entry: str) -> None:
    """Two consecutive rollouts: returns, loss, and the gradient, which also runs through what restarts watched."""
    given = read_recorded(reference_dir / "atari_rollout.pt")[entry]
    config = ActorCriticLossConfig(**given["loss_config"])
    agent = DiamondAgent(agent_config(recorded["config"]), policy_loss=config)
    agent.load_state_dict(recorded["state_dict"])
    policy = agent.actor_critic
    rollouts = Rollouts(Replaying(given), policy, config)
    for theirs in given["rollouts"]:
        # The environment answers as recorded, whatever is done; the loss is computed for the recorded actions.
        rollout = dataclasses.replace(rollouts.collect()[0], act=theirs["act"])
        policy.zero_grad()
        loss, metrics = policy(rollout)
        loss.backward()
        torch.testing.assert_close(loss, theirs["loss"], rtol=1e-5, atol=0)
        # Their terms are recorded with the sign and weight that they have in the loss.
        ours = {
            "loss_actions": metrics["loss_actions"],
            "loss_values": config.weight_value_loss * metrics["loss_values"],
            "loss_entropy": -config.weight_entropy_loss * metrics["entropy"],
            "policy_entropy": metrics["entropy"] / math.log(2),
            "loss_total": metrics["loss_total"],
        }
        assert ours.keys() == theirs["metrics"].keys()
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs["metrics"][name], rtol=1e-5, atol=0)
        gradients = {name: parameter.grad for name, parameter in policy.named_parameters()}
        assert gradients.keys() == theirs["grad"].keys()
        for name, gradient in theirs["grad"].items():
            assert (gradients[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


class Replaying:
    """An environment that answers with what is recorded, rollout after rollout."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.first_obs = given["first_obs"]
        self.num_envs = len(self.first_obs)
        self.steps = (step for rollout in given["rollouts"] for step in self.answers(rollout))

    def answers(self, rollout: dict[str, Any]) -> Iterator[Step]:
        dead = (rollout["end"] | rollout["trunc"])[..., None, None, None]
        obs = torch.where(dead, rollout["restart_obs"], rollout["final_obs"])
        history = rollout["restart_history"]
        for index in range(len(obs)):
            rew, end, trunc, final_obs = [rollout[name][index] for name in ("rew", "end", "trunc", "final_obs")]
            yield Step(obs[index], rew, end, trunc, final_obs, None if history is None else history[index])

    def prepare(self, num_steps: int) -> None: ...

    def forget_starts(self) -> None: ...

    def reset(self) -> Start:
        return Start(self.first_obs)

    def step(self, act: Tensor) -> Step:
        return next(self.steps)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def test_published_checkpoint_keys(reference_dir: Path) -> None:
    path = reference_dir / "checkpoint_keys_atari_breakout.json"
    theirs = {name: tuple(shape) for name, shape in json.loads(path.read_text()).items()}
    num_actions = theirs["actor_critic.actor_linear.weight"][0]
    agent = DiamondAgent(default_config(num_actions))
    assert {name: tuple(value.shape) for name, value in agent.state_dict().items()} == theirs
    sizes = {name: sum(p.numel() for p in getattr(agent, name).parameters()) for name in agent.components}
    if num_actions == 4:
        assert sizes == {"denoiser": 4_405_955, "rew_end_model": 5_900_864, "actor_critic": 3_229_637}


def test_published_two_stage_checkpoint_keys(reference_dir: Path) -> None:
    path = reference_dir / "checkpoint_keys_csgo.json"
    theirs = {name: tuple(shape) for name, shape in json.loads(path.read_text()).items()}
    num_actions = theirs["denoiser.inner_model.act_emb.0.weight"][0]
    config = build(AgentConfig, load_yaml(PROJECT / "config" / "agent" / "csgo.yaml"), "agent")
    with torch.device("meta"):
        agent = DiamondAgent(dataclasses.replace(config, num_actions=num_actions))
    assert {name: tuple(value.shape) for name, value in agent.state_dict().items()} == theirs
    sizes = {name: sum(p.numel() for p in getattr(agent, name).parameters()) for name in agent.components}
    assert sizes == {"denoiser": 330_489_219, "upsampler": 51_149_187}


def default_config(num_actions: int) -> AgentConfig:
    inner_model = InnerModelConfig(3, 4, 256, (2, 2, 2, 2), (64, 64, 64, 64), (0, 0, 0, 0))
    rew_end_model = RewEndModelConfig(512, 3, 64, 128, (2, 2, 2, 2), (32, 32, 32, 32), (0, 0, 0, 0))
    actor_critic = ActorCriticConfig(512, 3, 64, (32, 32, 64, 64), (1, 1, 1, 1))
    return AgentConfig(DenoiserConfig(inner_model, 0.5, 0.3), rew_end_model, actor_critic, num_actions)


def test_published_run_opens(reference_dir: Path) -> None:
    run = reference_dir / "run"
    for split in ("train", "test"):
        dataset = Dataset.open(run / "dataset" / split)
        lengths = [len(episode) for episode in dataset.episodes()]
        assert sum(lengths) == dataset.num_steps > 0
        if dataset.info_path.exists():
            info, ours = load_tensors(dataset.info_path), dataset.state_dict()
            assert ours.keys() == info.keys()
            assert all(np.array_equal(ours[name], info[name]) for name in info)
    config = json.loads((run / "agent_config.json").read_text())
    agent = DiamondAgent(AgentConfig(**vars(agent_config(config)) | {"num_actions": config["num_actions"]}))
    for path in (run / "checkpoints" / "agent_versions").glob("*.pt"):
        agent.load(path)


def test_published_episodes_are_written_back_byte_for_byte(reference_dir: Path, tmp_path: Path) -> None:
    published = Dataset.open(reference_dir / "run" / "dataset" / "train")
    for episode_id in range(published.num_episodes):
        path = published.episode_path(episode_id)
        copy = tmp_path / path.name
        published.load_episode(episode_id).save(copy)
        theirs, ours = load_tensors(path), load_tensors(copy)
        assert ours.keys() == theirs.keys()
        for name in theirs.keys() - {"info"}:
            assert ours[name].dtype == theirs[name].dtype
            assert torch.equal(ours[name], theirs[name])
        assert ours["info"].keys() == theirs["info"].keys()
        for name, value in theirs["info"].items():
            torch.testing.assert_close(ours["info"][name], value, atol=1e-6, rtol=0)


def batch_of(given: dict[str, Any]) -> Batch:
    obs, act = given["obs"], given["act"]
    finals = torch.zeros(len(obs), *obs.shape[2:])
    for name, value in given.items():
        if name.startswith("final_observation_of_sequence_"):
            finals[int(name.rsplit("_", 1)[1])] = value
    rew, end = given.get("rew", torch.zeros(act.shape)), given.get("end", torch.zeros(act.shape, dtype=torch.uint8))
    return Batch(obs, act, rew, end, torch.zeros_like(end), given["mask_padding"], finals)


@pytest.fixture(scope="module")
def two_stages(reference_dir: Path) -> dict[str, Any]:
    return read_recorded(reference_dir / "csgo_small.pt")


@pytest.fixture(scope="module")
def two_stage_agent(two_stages: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> DiamondAgent:
    """Denoiser and upsampler only, loaded from a checkpoint file."""
    levels = SigmaDistributionConfig(**two_stages["denoiser"]["loss"]["sigma_distribution"])
    agent = DiamondAgent(two_stage_config(two_stages["config"]), levels, levels).eval()
    path = tmp_path_factory.mktemp("reference") / "agent.pt"
    torch.save(two_stages["state_dict"], path)
    agent.load(path)
    assert agent.components == ("denoiser", "upsampler")
    return agent


def two_stage_config(config: dict[str, Any]) -> AgentConfig:
    parts = {}
    for name in ("denoiser", "upsampler"):
        entries = dict(config[name])
        parts[name] = DenoiserConfig(inner_model=InnerModelConfig(**entries.pop("inner_model")), **entries)
    return AgentConfig(**parts, num_actions=config["num_actions"])


@torch.no_grad()
def test_two_stage_denoiser_forward(two_stage_agent: DiamondAgent, two_stages: dict[str, Any]) -> None:
    given, denoiser = two_stages["denoiser"]["forward"], two_stage_agent.denoiser
    scales, obs = denoiser.parameterisation.conditioners(given["sigma"]), given["obs"].flatten(1, 2)
    for sigma_cond, name in (
        (given["sigma_cond"], "model_output"),
        (None, "model_output_without_sigma_cond"),
    ):
        output = denoiser.network_output(given["noisy_next_obs"], scales, obs, given["act"], sigma_cond)
        assert_close(output, given[name])
    assert_close(given["sigma_cond"].log() / 4, given["c_noise_cond"])


def test_two_stage_denoiser_sampler(two_stage_agent: DiamondAgent, two_stages: dict[str, Any]) -> None:
    given = two_stages["denoiser"]["sampler"]
    sampler = DiffusionSampler(two_stage_agent.denoiser, DiffusionSamplerConfig(**given["config"]))
    inputs = two_stages["denoiser"]["forward"]
    randn = replaying([given["initial_noise"], *given["conditioning_noise"]])
    assert_same_samples(sampler.sample(inputs["obs"], inputs["act"], randn), given)


def test_upsampler_sampler(two_stage_agent: DiamondAgent, two_stages: dict[str, Any]) -> None:
    given, upsampler = two_stages["upsampler"]["sampler"], two_stage_agent.upsampler
    enlarged = upsampler.enlarge(given["low_res"])[:, None]
    assert_close(enlarged, given["low_res_upsampled_bicubic"])
    sampler = DiffusionSampler(upsampler, DiffusionSamplerConfig(**given["config"]))
    obs = torch.cat((given["previous_full_res"], enlarged), dim=1)
    randn = replaying([given["initial_noise"], *given["churn_noise"]])
    assert_same_samples(sampler.sample(obs, None, randn), given)


@pytest.mark.parametrize("component", ["denoiser", "upsampler"])
def test_two_stage_losses(two_stage_agent: DiamondAgent, two_stages: dict[str, Any], component: str) -> None:
    given, denoiser = two_stages[component]["loss"], getattr(two_stage_agent, component)
    loss, _ = denoiser(two_stage_batch(given), replaying(given["draws"]))
    torch.testing.assert_close(loss, given["loss"], rtol=1e-5, atol=0)


def two_stage_batch(given: dict[str, Any]) -> Batch:
    obs = given["obs"]
    nothing = torch.zeros(obs.shape[:2])
    act, mask, full = given.get("act", nothing.long()), given["mask_padding"], given.get("full_res")
    return Batch(obs, act, nothing, nothing.byte(), nothing.byte(), mask, obs[:, 0], full)


def assert_same_samples(ours: tuple[Tensor, list[Tensor]], given: dict[str, Any]) -> None:
    next_obs, trajectory = ours
    assert_same_frames(next_obs, given["next_obs"])
    off = (torch.stack(trajectory) - given["trajectory"]).abs()
    assert off.max() <= GREY_LEVEL * (len(trajectory) - 1)
    assert (off > ABSOLUTE).float().mean() < 1e-3


def test_frames_survive_bytes() -> None:
    frames = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(frames.float() / 255 * 2 - 1), frames)


def recorded_games(reference_dir: Path) -> dict[str, dict[str, np.ndarray]]:
    with np.load(reference_dir / "atari_frames.npz", allow_pickle=False) as stored:
        games = sorted({name.removesuffix("_frames") for name in stored.files if name.endswith("_frames")})
        kinds = ("frames", "actions", "rewards", "game_over", "life_lost")
        return {game: {kind: stored[f"{game}_{kind}"] for kind in kinds} for game in games}


@pytest.mark.parametrize("done_on_life_loss", [False, True])
def test_atari_frames(reference_dir: Path, done_on_life_loss: bool) -> None:
    for game, given in recorded_games(reference_dir).items():
        size = given["frames"].shape[1]
        config = AtariConfig(f"{game}NoFrameskip-v4", size, done_on_life_loss, noop_max=0)
        env = make_env(config, num_envs=1, seed=0, device=torch.device("cpu"))
        assert np.array_equal(_image(env.reset().obs), given["frames"][0])
        for index, action in enumerate(given["actions"]):
            step = env.step(torch.tensor([action]))
            assert np.array_equal(_image(step.final_obs), given["frames"][index + 1]), (game, index)
            assert float(step.rew) == given["rewards"][index]
            over, lost = bool(given["game_over"][index]), bool(given["life_lost"][index])
            assert bool(step.end) == (over or (lost and done_on_life_loss)), (game, index)
            if over:
                break


def _image(obs: Tensor) -> np.ndarray:
    return obs[0].permute(1, 2, 0).numpy()
