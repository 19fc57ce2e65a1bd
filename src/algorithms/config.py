"""Settings that all algorithms share; each algorithm extends `TrainerConfig` with its own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from algorithms.base import Collect
from envs import EnvConfig, same_frames
from errors import UserError
from ranges import Above, BadSetting, Between, Count, Fraction, Whole
from run.log import WandbConfig

Seed = Annotated[int, Between(0, 2**31 - 1)]
NumEnvs = Annotated[int, Between(1, 4096)]


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """Name of the algorithm: see `find_definition`."""

    name: str


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """The device, the seed, and the number of PyTorch's threads.

    Where the YAML has null, a seed is drawn when the run begins. In the same way `auto` becomes a number of threads,
    because the results depend on it.
    """

    device: str
    seed: Seed
    threads: Annotated[int, Between(1, 1024)] | str = "auto"


@dataclass(frozen=True, kw_only=True)
class EnvsConfig:
    """The training and the test environments."""

    train: EnvConfig
    test: EnvConfig

    def __post_init__(self) -> None:
        if self.train.size is None:
            raise BadSetting("train.size=null: agents need frames of one size, as in 64 or [height, width].")
        if not same_frames(self.train, self.test):
            raise BadSetting("test.size and test.grayscale must be those of train: the same agent plays in both.")


@dataclass(frozen=True, kw_only=True)
class InitializationConfig:
    """Weights to start from."""

    path_to_ckpt: str | None


@dataclass(frozen=True, kw_only=True)
class CheckpointingConfig:
    """Longest time between two checkpoints in minutes, epochs between saved weights, and how many of them to keep."""

    minutes: Annotated[float, Between(0, math.inf)]
    save_agent_every: Count
    num_to_keep: Count | None


@dataclass(frozen=True, kw_only=True)
class FirstEpochConfig:
    """Steps of the first collection: at least `min`, at most `max`.

    It stops between them once `threshold_rew` rewards have been seen whose sign is not the most common one.
    """

    min: Count
    max: Count
    threshold_rew: Whole

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise BadSetting(f"min={self.min} is larger than its max={self.max}.")


@dataclass(frozen=True, kw_only=True)
class TrainCollectionConfig:
    """Collection of training experience; a random action is taken with probability `epsilon`.

    `epsilon_zeta` is the exponent of the durations of random actions; with null they take one step. The environments
    take turns in `num_groups` groups, or fewer if there are fewer environments: while the games of some are emulated,
    the policy acts in another.
    """

    num_envs: NumEnvs
    num_groups: NumEnvs = 1
    epsilon: Fraction
    epsilon_zeta: Annotated[float, Above(1, 100)] | None = None
    num_steps_total: Count
    steps_per_epoch: Count
    first_epoch: FirstEpochConfig

    def collect(self, epoch: int) -> Collect:
        """The collection at the start of an epoch (counted from 1)."""
        first = self.first_epoch
        return Collect(first.min, first.max, first.threshold_rew) if epoch == 1 else Collect(self.steps_per_epoch)


@dataclass(frozen=True, kw_only=True)
class TestCollectionConfig:
    """Test episodes: `num_episodes` at each evaluation, `num_final_episodes` at the end of the run.

    At the end, as many are played at random.
    """

    num_envs: NumEnvs
    epsilon: Fraction
    num_episodes: Whole
    num_final_episodes: Whole


@dataclass(frozen=True, kw_only=True)
class CollectionConfig:
    train: TrainCollectionConfig
    test: TestCollectionConfig


@dataclass(frozen=True, kw_only=True)
class StaticDatasetConfig:
    """A data set to train on instead of an environment; `num_workers` threads prefetch batches from disk.

    `stride` is the number of recorded steps from one frame of the model to the next.
    """

    path: str | None = None
    path_full_res: str | None = None
    num_actions: Count | None = None
    ignore_sample_weights: bool = True
    num_workers: Annotated[int, Between(0, 256)] = 2
    stride: Annotated[int, Between(1, 100_000)] = 1


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Device memory, precision and compilation, and the number of epochs after the last collection.

    With `offload_idle`, components that are not being trained are kept in main memory, with their optimizers. Metrics
    are logged for each epoch, and with `log_every` for so many updates of a component, too.
    """

    num_final_epochs: Whole
    precision: str
    compile: bool | str
    replay_device: str
    offload_idle: bool
    log_every: Count | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Epochs between evaluations, whether to evaluate the untrained agent, and frames in each scene of the video.

    With `video_interval`, a video is made only at the first evaluation after that many more steps were collected. A
    component is tested on at most `max_batches` batches, spread over the test data (None: on all of it).
    """

    every: Count
    untrained: bool
    video_steps: Annotated[int, Between(0, 100_000)]
    video_interval: Count | None = None
    max_batches: Count | None


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """All settings of a run that are not specific to one algorithm."""

    algorithm: AlgorithmConfig
    common: CommonConfig
    env: EnvsConfig
    wandb: WandbConfig
    initialization: InitializationConfig
    checkpointing: CheckpointingConfig
    collection: CollectionConfig
    static_dataset: StaticDatasetConfig
    training: RunConfig
    evaluation: EvaluationConfig

    def chosen_for(self, kind: str) -> Mapping[str, Any]:
        """Values, by name, of settings that depend on the kind of device (`cpu`, `cuda`, …); kept with the run."""
        return {}

    def check(self) -> None:
        """Raise UserError for settings that do not fit together in training; in play they may be anything."""
        if self.static_dataset.path is not None and self.evaluation.video_interval is not None:
            raise UserError("evaluation.video_interval counts collected steps: leave it out with static_dataset.path.")

    def check_collects(self) -> None:
        """Raise UserError for settings that do nothing in an algorithm that learns while it collects."""
        name, unchanged = self.algorithm.name, StaticDatasetConfig()
        for setting, value in vars(self.static_dataset).items():
            if value != getattr(unchanged, setting):
                raise UserError(f"algorithm={name} collects its own experience: leave out static_dataset.{setting}.")
        if self.training.offload_idle:
            raise UserError("training.offload_idle=true needs an agent without a policy: set it to false.")
        if self.training.num_final_epochs > 0:
            raise UserError(
                f"training.num_final_epochs={self.training.num_final_epochs} must be 0: algorithm={name} learns while "
                "it collects. For a longer run, set collection.train.num_steps_total."
            )
        if self.evaluation.max_batches is not None:
            seen = f"evaluation.max_batches={self.evaluation.max_batches}"
            raise UserError(f"{seen} must be null: algorithm={name} has no test batches.")
