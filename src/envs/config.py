"""Settings of environments. This module does not import the environments' libraries."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from data import ActionLayout
from models.diffusion import DiffusionSamplerConfig, SamplerConfig
from ranges import BadSetting, Between, Count, Pixels

Steps = Annotated[int, Between(1, 100_000_000)]
Size = Pixels | tuple[Pixels, ...] | None
"""Height and width of frames, or one number if they are equal; None keeps the game's own size."""

RESIZE = ("area", "bilinear_antialiased")
"""Interpolations of Atari frames, as DIAMOND and as DreamerV3 do it (Pillow's `BILINEAR`)."""


@dataclass(frozen=True)
class AtariConfig:
    """An Atari game by its id: `<Game>NoFrameskip-v4`, or `ALE/<Game>-v5`, which has sticky actions.

    With `done_on_life_loss`, losing a life ends the episode, but not the game. `noop_max` is the largest number of
    random no-ops at the start of a game, and `max_episode_steps` its longest duration. With `grayscale`, frames have
    one channel. `resize`: the interpolation, one of `RESIZE`.
    """

    id: str
    size: Size = 64
    done_on_life_loss: bool = False
    noop_max: Annotated[int, Between(0, 10_000)] = 30
    max_episode_steps: Steps = 27_000
    grayscale: bool = False
    resize: str = "area"

    def __post_init__(self) -> None:
        _check_size(self.size)
        if self.resize not in RESIZE:
            raise BadSetting(f"resize={self.resize} is unknown: use {' or '.join(RESIZE)}.")


@dataclass(frozen=True)
class GymConfig:
    """A Gymnasium environment by its id, also `module:Id`; `options` are passed to `gymnasium.make`.

    Frames are resized to `size`. With `grayscale`, they have one channel.
    """

    id: str
    size: Size = 64
    max_episode_steps: Steps | None = None
    options: dict[str, Any] = field(default_factory=dict)
    grayscale: bool = False

    def __post_init__(self) -> None:
        _check_size(self.size)


@dataclass(frozen=True)
class RecordedGameConfig:
    """A game that exists only as recordings: frames of `size` (height, width), `fps` frames per second.

    `actions` is the meaning of multi-hot actions; None for recordings with other kinds of actions.
    """

    id: str
    size: tuple[Pixels, ...]
    fps: Annotated[int, Between(1, 1000)] = 15
    actions: ActionLayout | None = None
    grayscale: bool = False

    def __post_init__(self) -> None:
        _check_size(self.size)


EnvConfig = AtariConfig | GymConfig | RecordedGameConfig


def height_and_width(size: int | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def frame_shape(config: EnvConfig) -> tuple[int, int, int]:
    """Channels, height and width of the frames that agents see; `config.size` must not be None."""
    return (1 if config.grayscale else 3), *height_and_width(config.size)


def same_frames(one: EnvConfig, other: EnvConfig) -> bool:
    """Whether the frames of two environments have the same shape; sizes must not be None in `one`."""
    return other.size is not None and frame_shape(one) == frame_shape(other)


def _check_size(size: Size) -> None:
    if isinstance(size, tuple) and len(size) != 2:
        raise BadSetting(f"size={list(size)} must be one number, or a height and a width.")


def action_layout(config: EnvConfig) -> ActionLayout | None:
    """The meaning of a game's multi-hot actions; None if it has no such actions."""
    return config.actions if isinstance(config, RecordedGameConfig) else None


@dataclass(frozen=True)
class WorldModelEnvConfig:
    """Steps until truncation, the number of batches of starts that are prepared at once, and the frame samplers.

    `diffusion_sampler_upsampling` samples the full-size frames of agents with an upsampler.
    """

    horizon: Count = 15
    num_batches_to_preload: Count = 32
    diffusion_sampler: SamplerConfig = field(default_factory=DiffusionSamplerConfig)
    diffusion_sampler_upsampling: SamplerConfig = field(default_factory=DiffusionSamplerConfig)
