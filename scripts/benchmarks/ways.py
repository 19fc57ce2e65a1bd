"""The two ways that are compared: the same weights, each with its own precision, layout and kind of replay."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from agent import Agent, AgentConfig
from data import Batch, Episode, Replay, draw_segments, segment_by_segment, to_unit_range
from models.actor_critic import ActorCritic, ActorCriticConfig
from models.diffusion import Denoiser, DenoiserConfig, InnerModelConfig
from models.rew_end_model import RewEndModel, RewEndModelConfig
from run.compiled import compile_networks
from run.device import choose_precision

NUM_ACTIONS = 4
CONDITIONING = 4


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the default is the published recipe."""

    image: int = 64
    width: int = 64
    depth: int = 2
    lstm: int = 512
    batch: int = 32
    replay_steps: int = 100_000
    plain_steps: int = 20_000
    episodes: int = 3_000
    repeats: int = 3
    batch_repeats: int = 200
    dreamer_unit: int = 16
    """The unit of DreamerV3's widths: 16 is size 12M."""
    dreamer_batch: int = 16
    dreamer_length: int = 64


QUICK = Sizes(16, 16, 1, 32, 4, 2_000, 1_000, 40, 1, 3, 2, 2, 4)


@dataclass(frozen=True)
class Way:
    """One of the two ways, ready to work."""

    agent: Agent
    precision: torch.dtype
    memory_format: torch.memory_format
    draw: Callable[[int, int, bool], Batch]
    """`draw(batch_size, length, beyond_end)` gives segments, which may reach beyond the end of their episode or not."""
    is_compiled: bool = False


@dataclass(frozen=True)
class Bench:
    """Both ways, the straightforward one and the project's default, at given sizes on one device."""

    sizes: Sizes
    device: torch.device
    plain: Way
    default: Way


def make_bench(sizes: Sizes, device: torch.device, compiles: bool | str) -> Bench:
    """Both ways with the same weights and synthetic frames; `compiles` as in `training.compile`."""
    agent = make_agent(make_agent_config(sizes)).to(device)
    with torch.no_grad():
        # Networks begin with zeros in places, which would make work that training does not have.
        for parameter in agent.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    fast = copy.deepcopy(agent).to(memory_format=torch.channels_last)
    is_compiled = compile_networks(fast.networks_to_compile, compiles, device, is_first=True)
    rng = np.random.default_rng(0)
    replay = fill_replay(sizes, device)
    episodes = make_float_episodes(sizes)
    lengths = np.array([len(episode) for episode in episodes])

    def draw_plainly(batch_size: int, length: int, beyond_end: bool) -> Batch:
        segments = draw_segments(rng, lengths, batch_size, length, None, beyond_end)
        return segment_by_segment(episodes, segments).to(device)

    def draw(batch_size: int, length: int, beyond_end: bool) -> Batch:
        segments = draw_segments(rng, replay.episode_lengths, batch_size, length, None, beyond_end)
        return replay.gather(segments).to(device)

    plain = Way(agent, torch.float32, torch.contiguous_format, draw_plainly)
    default = Way(fast, choose_precision("auto", device), torch.channels_last, draw, is_compiled)
    return Bench(sizes, device, plain, default)


def make_agent(config: AgentConfig) -> Agent:
    """DIAMOND's networks; made here, because the package of the algorithm needs more libraries than they do."""
    networks = {
        "denoiser": Denoiser(config.denoiser),
        "rew_end_model": RewEndModel(config.rew_end_model),
        "actor_critic": ActorCritic(config.actor_critic),
    }
    return Agent(networks)


def make_agent_config(sizes: Sizes) -> AgentConfig:
    """The networks of `config/agent/default.yaml`; a test compares them."""
    depths, no_attention, half = (sizes.depth,) * 4, (0,) * 4, sizes.width // 2
    inner_model = InnerModelConfig(3, CONDITIONING, 4 * sizes.width, depths, (sizes.width,) * 4, no_attention)
    return AgentConfig(
        DenoiserConfig(inner_model, sigma_data=0.5, sigma_offset_noise=0.3),
        RewEndModelConfig(sizes.lstm, 3, sizes.image, 2 * sizes.width, depths, (half,) * 4, no_attention),
        ActorCriticConfig(sizes.lstm, 3, sizes.image, (half, half, sizes.width, sizes.width), (1,) * 4),
        num_actions=NUM_ACTIONS,
    )


def fill_replay(sizes: Sizes, device: torch.device) -> Replay:
    replay = Replay(device if device.type == "cuda" else torch.device("cpu"), sizes.replay_steps)
    length = sizes.replay_steps // sizes.episodes
    for _ in range(sizes.episodes):
        replay.add_episode(make_episode(length, sizes.image))
    return replay


def make_float_episodes(sizes: Sizes) -> list[Episode]:
    """As many episodes of float32 frames, which share some memory, so that a small machine has room for them."""
    length = sizes.replay_steps // sizes.episodes
    whole = make_episode(sizes.plain_steps, sizes.image)
    frames = to_unit_range(whole.obs)
    starts = np.random.default_rng(1).integers(0, sizes.plain_steps - length, sizes.episodes)
    columns = (frames, whole.act, whole.rew, whole.end, whole.trunc)
    return [Episode(*[column[start : start + length] for column in columns]) for start in starts]


def make_episode(length: int, image: int) -> Episode:
    """Random frames, actions and rewards, without an end."""
    flags = torch.zeros(length, dtype=torch.uint8)
    obs = torch.randint(256, (length, 3, image, image), dtype=torch.uint8)
    return Episode(obs, torch.randint(NUM_ACTIONS, (length,)), torch.randint(-1, 2, (length,)).float(), flags, flags)
