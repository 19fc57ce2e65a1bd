"""The interface between an algorithm and the trainer, and the phases that an algorithm can ask the trainer to run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from agent import Agent
from component import Component
from data import Batch, Experience, Imagined, Spaces, Step
from rl.policy import Env, Policy
from run.ranks import Ranks


@dataclass(frozen=True)
class Collect:
    """Let the policy act in the real environments for `steps` steps, limited by the run's total number of steps.

    With `at_most`, collection continues, up to that many steps, until `rewards` rewards have been seen whose sign is
    not the most common one.
    """

    steps: int
    at_most: int | None = None
    rewards: int = 0

    def most(self, room: int) -> int:
        """The largest number of steps, if the run has `room` for that many more."""
        return min(self.at_most or self.steps, room)


@dataclass(frozen=True)
class Update:
    """Update a component `updates` times."""

    component: str
    updates: int


@dataclass(frozen=True)
class Interleave:
    """Collect, and update the components as soon as updates are due; these can draw from new steps immediately.

    Updates are counted over the whole run: the first one is due when there are `since` observations, and `ratio` more
    for each observation after these. An episode has one more observation than steps.
    """

    collect: Collect
    update: tuple[str, ...]
    ratio: float
    since: int = 1

    def num_due(self, num_observations: int) -> int:
        """The number of updates, of each component, that are due when there are that many observations."""
        later = num_observations - self.since
        return 0 if later < 0 else 1 + int(later * self.ratio)


@dataclass(frozen=True)
class PlayEpisodes:
    """Play `count` whole episodes in the test environments; they replace the test data.

    Their returns are logged under `collection/<name>`. With `at_random`, all actions are random.
    """

    count: int
    name: str = "test"
    at_random: bool = False


@dataclass(frozen=True)
class EvaluateWorld:
    """Test every component on the test data, and make a video of real beside imagined frames."""


@dataclass(frozen=True)
class Save:
    """Save the agent's weights in `agent_versions/`."""


Phase = Collect | Update | Interleave | PlayEpisodes | EvaluateWorld | Save


class World(Env, Protocol):
    """An imagined environment. It starts from real experience, and can also follow a given sequence of actions."""

    num_context_steps: int
    """Number of real steps that imagination starts from."""
    horizon: int
    """Number of steps until an episode is truncated; may be changed at any time."""
    shows_rewards: bool
    """Whether the world also predicts rewards and ends."""

    def imagine(self, batch: Batch, act: Tensor) -> Imagined:
        """Imagine frames, rewards and ends under given actions, without ending or restarting.

        `batch` holds the `num_context_steps` real frames and actions to start from; its last action leads to the first
        imagined frame. `act` int64 (b, t - 1), or vectors (b, t - 1, size), are the actions taken at the imagined
        frames. Returns t steps; without rewards and ends unless the world `shows_rewards`.
        """

    def parts(self) -> Mapping[str, tuple[Any, str]]:
        """The parts to time in a profile: for each label, an object and the name of its method."""


@runtime_checkable
class Reconstructor(Protocol):
    """A world that can draw the frames that it is shown from what it keeps of them."""

    def reconstruct(self, batch: Batch) -> Tensor:
        """The frames of a batch, uint8 (b, t, c, h, w), each drawn from the state after it."""


@runtime_checkable
class ContinuingWorld(Protocol):
    """A world whose steps say with which probability the episode continues (`Step.going_on`)."""

    tells_continue: bool


@runtime_checkable
class JoinableWorld(Protocol):
    """A world of one row whose step can be computed together with other worlds' steps, as one batch.

    Each world keeps its own state, horizon and starts: any of them can be stepped or reset without the others.
    """

    def can_join(self, other: object) -> bool:
        """Whether the same networks, sampled in the same way, imagine both."""

    def step_joined(self, worlds: Sequence[Self], act: Tensor) -> list[Step]:
        """Step these worlds, all of which can join this one, with actions (b), or vectors (b, size)."""


@runtime_checkable
class DenoisingWorld(Protocol):
    """A world whose frames are sampled from noise."""

    num_steps_denoising: int
    """May be changed at any time."""
    most_steps_denoising: int
    """The largest number of steps that is possible."""
    eta: float | None
    """The share of noise in each step, 1: ancestral, 0: DDIM. May be changed, unless it is None: there is none."""


@runtime_checkable
class Rebuilder(Protocol):
    """An algorithm that can fill its replay columns from the episodes, if a checkpoint has lost them."""

    def rebuild_columns(self) -> None: ...


@runtime_checkable
class Explorer(Protocol):
    """An algorithm that takes more random actions at first."""

    def epsilon(self) -> float:
        """The probability of a random action in the next step of training, instead of `collection.train.epsilon`."""


class Algorithm(Protocol):
    """What the trainer needs to know about an algorithm."""

    agent: Agent
    """Its flat state dict is saved in `agent_versions/`."""
    components: Mapping[str, Component]
    """Trained modules; settings and metrics use these names. Empty if nothing is trained, as in play."""
    policy: Policy | None
    """Acts in real and imagined environments; None if the agent learns from recordings only."""

    def phases(self, epoch: int) -> Sequence[Phase]:
        """The phases of an epoch (counted from 1). The trainer adds tests and saves, according to the settings."""

    def world(self, num_envs: int) -> World | None:
        """The imagined environment; None if the algorithm has none."""

    def state_of_rank(self) -> dict[str, Any]:
        """State that differs between ranks, such as rollouts and random generators, except PyTorch's random states."""

    def load_state_of_rank(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Surroundings:
    """What an algorithm is built from: the data's shapes, the device, and sources of experience.

    `experience` is what it learns from; None if it only acts. If there is no `experience`,
    `draw_starts(count, length, with_full_frames)` returns the segments of real steps that imagination starts from.
    `make_env(count, seed)` makes real training environments. `precision` is the dtype that networks run in.
    """

    spaces: Spaces
    ranks: Ranks
    precision: torch.dtype
    seed: int = 0
    experience: Experience | None = None
    draw_starts: Callable[[int, int, bool], Batch] | None = None
    make_env: Callable[[int, int], Env] | None = None

    @property
    def device(self) -> torch.device:
        return self.ranks.device


@dataclass(frozen=True)
class Definition:
    """The entry point of an algorithm: the type of its settings, and the function that makes it from them.

    `count_actions(weights)` returns the number of actions, or of entries of an action vector, that an agent with these
    weights was made for. `epoch_line` and `summary` map labels to the names of the metrics to print after each epoch
    and at the end of a run.
    """

    config: type
    make: Callable[[Any, Surroundings], Algorithm]
    count_actions: Callable[[Mapping[str, Tensor]], int]
    epoch_line: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, str] = field(default_factory=dict)
