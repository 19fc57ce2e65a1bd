"""Settings that make no sense are refused by name before anything is built, and all others can be used."""

import copy
import functools
import math
from collections.abc import Iterator
from typing import Any

import hydra
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from algorithms import find_definition, read_settings
from algorithms.diamond.agent import DiamondAgent, fit_to_data
from algorithms.diamond.config import DiamondConfig
from conftest import PROJECT
from data import Actions, Spaces
from envs import frame_shape
from errors import UserError
from models.diffusion import Denoiser, DiffusionSampler
from run.config import build, register_resolvers

GYM = ("env=gym", "env.train.id=CartPole-v1")
RECORDED = "static_dataset.path=recordings"
COMMANDS = {
    "atari": (),
    "gym": GYM,
    "quickstart": ("+experiment=quickstart",),
    "tiny": (*GYM, "+experiment=tiny"),
    "csgo": ("+experiment=csgo", RECORDED),
    "higher_quality": ("+experiment=csgo", "world_model_env=higher_quality", RECORDED),
    "room": ("+experiment=room", RECORDED),
    "recorded": ("env=recorded", "env.train.size=[48,64]", "agent.actor_critic=null", RECORDED),
    "dreamer": ("algorithm=dreamer", "algorithm.size=1M"),
    "ppo": ("algorithm=ppo",),
    "ddqn": ("+experiment=ddqn_100k",),
    "sac": (*GYM, "algorithm=sac", "+experiment=tiny"),
    "nature_cnn": ("algorithm=ppo", "agent=nature_cnn"),
}
MAKES_NETWORKS = {"tiny": ("agent", "env", "world_model_env", "denoiser"), "room": ("agent",)}
"""Small networks, and the sections for whose settings they are made."""
VALUES = (0, 1, -1, 0.5, 10**12, 1e300, math.nan, math.inf, None, "many", True, [1], {"a": 1})


@functools.cache
def compose(*overrides: str) -> dict[str, Any]:
    """The whole settings of a command line, as plain values."""
    return OmegaConf.to_container(compose_node(*overrides, "common.seed=1"), resolve=True)


def compose_node(*overrides: str) -> DictConfig:
    register_resolvers()
    with hydra.initialize_config_dir(str(PROJECT / "config"), version_base="1.3"):
        return hydra.compose("trainer", list(overrides))


def numbers(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the numbers of nested settings are. Of a list's entries, only the first and the last are named."""
    if isinstance(node, dict):
        for name, entry in node.items():
            yield from numbers(entry, (*path, name))
    elif isinstance(node, list):
        for place in sorted({0, len(node) - 1}) if node else ():
            yield from numbers(node[place], (*path, place))
        if node and not isinstance(node[0], str):
            yield path
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path


def put(settings: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A copy of the settings with another value."""
    changed = copy.deepcopy(settings)
    node: Any = changed
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return changed


def settle(settings: dict[str, Any]) -> Any:
    """Read settings as a run does before it makes anything."""
    config = build(find_definition(settings["algorithm"]["name"]).config, settings)
    config.check()
    return config


@torch.no_grad()
def use(config: DiamondConfig) -> None:
    """Run every network once, and make the samplers."""
    numbered = config.agent.actor_critic is not None
    channels, height, width = frame_shape(config.env.train)
    spaces = Spaces((channels, height, width), Actions("numbered" if numbered else "continuous", 4))
    agent = DiamondAgent(fit_to_data(config.agent, spaces))
    act = torch.zeros(2, 1, dtype=torch.int64) if numbered else torch.zeros(2, 1, 4)
    for denoiser in filter(None, (agent.denoiser, agent.upsampler)):
        denoise_once(denoiser, act, channels, height, width)
    frames = torch.zeros(2, channels, height, width)
    if (model := agent.rew_end_model) is not None:
        features = model.encoder(torch.cat((frames, frames), dim=1), model.act_emb(act).flatten(0, 1))
        model.head(model.lstm(features[:, None])[0])
    if (policy := agent.actor_critic) is not None:
        policy.actor_linear(policy.lstm(policy.encoder(frames), policy.initial_memory(2))[0])
    imagination = config.world_model_env
    for sampler in (imagination.diffusion_sampler, imagination.diffusion_sampler_upsampling):
        DiffusionSampler(agent.denoiser, sampler)
    config.denoiser.sigma_distribution.draw(2, torch.device("cpu"))
    config.denoiser.optimizer.make(torch.nn.Linear(1, 1))


def denoise_once(denoiser: Denoiser, act: torch.Tensor, channels: int, height: int, width: int) -> None:
    n, factor = denoiser.num_steps_conditioning, denoiser.config.upsampling_factor
    side, frames = factor or 1, n + (factor is not None)
    obs = torch.zeros(2, frames * channels, side * height, side * width)
    acts = None if factor is not None else act.expand(2, n, *act.shape[2:])
    denoiser.inner_model(obs[:, :channels], torch.zeros(2), obs, acts)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_is_used_or_refused_by_name(name: str) -> None:
    settings = compose(*COMMANDS[name])
    settle(settings)
    places = list(numbers(settings))
    # Agents without a world model have fewer settings.
    assert len(places) > (60 if "world_model_env" in settings else 39)
    for path in places:
        for value in VALUES:
            try:
                config = settle(put(settings, path, value))
            except UserError as error:
                line = str(error)
                assert "\n" not in line
                assert str(path[-2] if isinstance(path[-1], int) else path[-1]) in line
                continue
            if path[0] in MAKES_NETWORKS.get(name, ()):
                use(config)


ATARI = COMMANDS["atari"]
ACCEPTED_BEFORE = [
    ("denoiser.training.max_grad_norm", -1, "must be above 0"),
    ("denoiser.training.grad_acc_steps", 0, "must be at least 1"),
    ("checkpointing.num_to_keep", -1, "must be at least 1"),
    ("checkpointing.num_to_keep", 0, "must be at least 1"),
    ("denoiser.optimizer.weight_decay", -1, "must be at least 0"),
    ("collection.train.epsilon", 2, "must be at least 0 and at most 1"),
    ("collection.train.epsilon_zeta", 1, "must be above 1"),
    ("collection.test.epsilon", -1, "must be at least 0 and at most 1"),
    ("denoiser.training.sample_weights", [0, 0, 0, 0], "must have an entry above 0"),
    ("world_model_env.diffusion_sampler.num_steps_denoising", 0, "must be at least 1"),
    ("world_model_env.diffusion_sampler.order", 3, "must be at least 1 and at most 2"),
    ("world_model_env.diffusion_sampler.sigma_min", 100, "is larger than its sigma_max"),
    ("denoiser.sigma_distribution.scale", -1, "must be at least 0"),
    ("actor_critic.actor_critic_loss.gamma", 2, "must be at least 0 and at most 1"),
    ("agent.actor_critic.lstm_dim", 0, "must be at least 1"),
    ("static_dataset.num_workers", -1, "must be at least 0"),
    ("denoiser.training.steps_per_epoch", -3, "must be at least 0"),
    ("training.num_final_epochs", -1, "must be at least 0"),
    ("collection.test.num_episodes", -1, "must be at least 0"),
    ("agent.rew_end_model.img_size", 32, "is not the size of the frames"),
]
TRACEBACKS_BEFORE = [
    ("env.train.size", None, "agents need frames of one size"),
    ("env.train.size", 0, "must be at least 1"),
    ("env.train.size", [64, -3], "must be at least 1"),
    ("env.test.size", 32, "must be those of train"),
    ("env.train.max_episode_steps", 0, "must be at least 1"),
    ("denoiser.training.batch_size", 0, "must be at least 1"),
    ("actor_critic.training.batch_size", 0, "must be at least 1"),
    ("denoiser.optimizer.lr", -1, "denoiser.optimizer.lr=-1 must be above 0 and at most 1e6"),
    ("denoiser.optimizer.lr", math.nan, "denoiser.optimizer.lr=nan must be above 0 and at most 1e6"),
    ("collection.train.num_steps_total", 0, "must be at least 1"),
    ("common.seed", -1, "must be at least 0 and at most 2147483647"),
    ("common.seed", 10**30, "must be at least 0 and at most 2147483647"),
    ("common.seed", 1.5, "should be of type int"),
    ("common.seed", "abc", "should be of type int"),
    ("world_model_env.diffusion_sampler.rho", 0, "must be at least 1"),
    ("actor_critic.actor_critic_loss.backup_every", 0, "must be at least 1"),
    ("rew_end_model.training.seq_length", 0, "must be at least 2"),
    ("evaluation.max_batches", -1, "must be at least 1"),
    ("agent.denoiser.inner_model.depths", [2, 2], "each must have one entry per level"),
    ("agent.actor_critic.down", [1, 1], "each must have one entry per level"),
    ("agent.actor_critic.down", [1, 1, 1, 2], "must be at least 0 and at most 1"),
    ("agent.actor_critic.down", [], "must have 1 to 10 entries"),
    ("agent.denoiser.inner_model.channels", [32, 48, 64, 64], "use multiples of 32"),
    ("agent.denoiser.inner_model.cond_channels", 7, "must be even"),
    ("agent.denoiser.inner_model.cond_channels", 6, "num_steps_conditioning=4"),
    ("agent.denoiser.upsampling_factor", 2, "only the upsampler enlarges frames"),
    ("denoiser", None, "denoiser=null should be of type DenoiserSection"),
    ("env", None, "env=null should be of type EnvsConfig"),
]


@pytest.mark.parametrize(("name", "value", "words"), [*ACCEPTED_BEFORE, *TRACEBACKS_BEFORE])
def test_nonsense_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(UserError) as refused:
        settle(put(compose(*ATARI), tuple(name.split(".")), value))
    assert words in str(refused.value)
    assert name.rpartition(".")[0] in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("world_model_env.diffusion_sampler.s_tmax", math.inf),
        ("denoiser.training.max_grad_norm", None),
        ("denoiser.training.max_grad_norm", math.inf),
        ("denoiser.training.sample_weights", None),
        ("denoiser.training.sample_weights", [0, 0, 0, 1]),
        ("denoiser.training.lr_warmup_steps", 0),
        ("denoiser.training.steps_per_epoch", 0),
        ("denoiser.training.num_autoregressive_steps", 0),
        ("denoiser.optimizer.weight_decay", 0),
        ("checkpointing.num_to_keep", None),
        ("checkpointing.minutes", 0),
        ("collection.train.epsilon", 1),
        ("collection.train.first_epoch.threshold_rew", 0),
        ("collection.test.num_episodes", 0),
        ("evaluation.video_steps", 0),
        ("agent.denoiser.inner_model.channels", [64, 96, 128, 256]),
        ("agent.denoiser.inner_model.channels", [8, 12, 16, 24]),
        ("agent.denoiser.inner_model.attn_depths", [0, 0, 0, 1]),
        ("agent.rew_end_model.cond_channels", 7),
    ],
)
def test_sense_is_accepted(name: str, value: Any) -> None:
    config = settle(put(compose(*ATARI), tuple(name.split(".")), value))
    if name.startswith("agent"):
        use(config)


@pytest.mark.parametrize("value", ["null", "many", "nan", "[1]", "1e300", "-1", "0"])
@pytest.mark.parametrize("name", ["world_model_env.horizon", "agent.denoiser.inner_model.num_steps_conditioning"])
def test_what_others_are_computed_from_is_refused(name: str, value: str) -> None:
    """`rew_end_model.training.seq_length` is computed from these."""
    with pytest.raises(UserError, match=name):
        read_settings(compose_node(f"{name}={value}", "common.seed=1"))
