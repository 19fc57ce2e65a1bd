"""Settings of environments. This module does not import the environments' libraries."""

from dataclasses import dataclass, field
from typing import Any

from data import ActionLayout
from errors import UserError
from models.diffusion import DiffusionSamplerConfig

Size = int | tuple[int, ...] | None
"""Height and width of frames, or one number if they are equal; None keeps the game's own size."""


@dataclass(frozen=True)
class AtariConfig:
    """An Atari game by its id: `<Game>NoFrameskip-v4`, or `ALE/<Game>-v5`, which has sticky actions.

    With `done_on_life_loss`, losing a life ends the episode, but not the game. `noop_max` is the largest number of
    random no-ops at the start of a game, and `max_episode_steps` its longest duration. With `grayscale`, frames have
    one channel.
    """

    id: str
    size: Size = 64
    done_on_life_loss: bool = False
    noop_max: int = 30
    max_episode_steps: int = 27_000
    grayscale: bool = False

    def __post_init__(self) -> None:
        _check_size(self.id, self.size)


@dataclass(frozen=True)
class GymConfig:
    """A Gymnasium environment by its id, also `module:Id`; `options` are passed to `gymnasium.make`.

    Frames are resized to `size`. With `grayscale`, they have one channel.
    """

    id: str
    size: Size = 64
    max_episode_steps: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    grayscale: bool = False

    def __post_init__(self) -> None:
        _check_size(self.id, self.size)


@dataclass(frozen=True)
class RecordedGameConfig:
    """A game that exists only as recordings: frames of `size` (height, width), `fps` frames per second.

    `actions` is the meaning of multi-hot actions; None for recordings with other kinds of actions.
    """

    id: str
    size: tuple[int, ...]
    fps: int = 15
    actions: ActionLayout | None = None
    grayscale: bool = False

    def __post_init__(self) -> None:
        _check_size(self.id, self.size)


EnvConfig = AtariConfig | GymConfig | RecordedGameConfig


def height_and_width(size: int | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def frame_shape(config: EnvConfig) -> tuple[int, int, int]:
    """Channels, height and width of the frames that agents see; `config.size` must not be None."""
    return (1 if config.grayscale else 3), *height_and_width(config.size)


def _check_size(env_id: str, size: Size) -> None:
    if isinstance(size, tuple) and (len(size) != 2 or min(size) < 1):
        raise UserError(f"The size of {env_id} should be a height and a width: {list(size)}.")


def action_layout(config: EnvConfig) -> ActionLayout | None:
    """The meaning of a game's multi-hot actions; None if it has no such actions."""
    return config.actions if isinstance(config, RecordedGameConfig) else None


@dataclass(frozen=True)
class WorldModelEnvConfig:
    """Steps until truncation, the number of batches of starts that are prepared at once, and the frame samplers.

    `diffusion_sampler_upsampling` samples the full-size frames of agents with an upsampler.
    """

    horizon: int = 15
    num_batches_to_preload: int = 32
    diffusion_sampler: DiffusionSamplerConfig = field(default_factory=DiffusionSamplerConfig)
    diffusion_sampler_upsampling: DiffusionSamplerConfig = field(default_factory=DiffusionSamplerConfig)

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise UserError(f"world_model_env.horizon={self.horizon} must be at least 1.")
