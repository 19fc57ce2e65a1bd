"""What the settings say of environments. Nothing here needs the libraries that the environments need."""

from dataclasses import dataclass, field
from typing import Any

from data import ActionLayout
from errors import UserError
from models.diffusion import DiffusionSamplerConfig


@dataclass(frozen=True)
class AtariConfig:
    """A game by its id, `<Game>NoFrameskip-v4` or (with that id's sticky actions) `ALE/<Game>-v5`.

    `size` is the frame's height and width (None keeps the game's own), `done_on_life_loss` ends an episode (not the
    game) with each life, `noop_max` bounds the random waiting at the start, and `max_episode_steps` the length of a
    game.
    """

    id: str
    size: int | None = 64
    done_on_life_loss: bool = False
    noop_max: int = 30
    max_episode_steps: int = 27_000


@dataclass(frozen=True)
class GymConfig:
    """An environment by its id, also `module:Id`; `options` go to `gymnasium.make`.

    Frames are resized to `size` (None keeps their own).
    """

    id: str
    size: int | None = 64
    max_episode_steps: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedGameConfig:
    """A game of which there are recordings only: frames of `size` (height, width), `fps` of them a second.

    `actions` says what multi-hot actions mean; None where the recordings have numbered actions.
    """

    id: str
    size: tuple[int, ...]
    fps: int = 15
    actions: ActionLayout | None = None

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise UserError(f"The size of {self.id} should be a height and a width: {list(self.size)}.")


EnvConfig = AtariConfig | GymConfig | RecordedGameConfig


def frame_shape(config: EnvConfig) -> tuple[int, int, int]:
    """Channels, height and width of the frames that agents see of an environment with a `size`."""
    height, width = config.size if isinstance(config, RecordedGameConfig) else (config.size, config.size)
    return 3, height, width


def action_layout(config: EnvConfig) -> ActionLayout | None:
    """What the entries of a game's multi-hot actions mean; None where its actions are numbered."""
    return config.actions if isinstance(config, RecordedGameConfig) else None


@dataclass(frozen=True)
class WorldModelEnvConfig:
    """Steps until truncation, how many batches of starts are made ready at once, and the sampler of frames.

    `diffusion_sampler_upsampling` is that of full-size frames, for agents with an upsampler.
    """

    horizon: int = 15
    num_batches_to_preload: int = 32
    diffusion_sampler: DiffusionSamplerConfig = field(default_factory=DiffusionSamplerConfig)
    diffusion_sampler_upsampling: DiffusionSamplerConfig = field(default_factory=DiffusionSamplerConfig)
