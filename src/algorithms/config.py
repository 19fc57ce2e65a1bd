"""Settings that all algorithms share; each algorithm extends `TrainerConfig` with its own."""

from dataclasses import dataclass

from algorithms.base import Collect
from envs import EnvConfig
from errors import UserError
from run.log import WandbConfig


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """Name of the algorithm: see `find_definition`."""

    name: str


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """The device, and the seed. Where the YAML has null, a seed is drawn when the run begins."""

    device: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class EnvsConfig:
    """The training and the test environments."""

    train: EnvConfig
    test: EnvConfig


@dataclass(frozen=True, kw_only=True)
class InitializationConfig:
    """Weights to start from."""

    path_to_ckpt: str | None


@dataclass(frozen=True, kw_only=True)
class CheckpointingConfig:
    """Longest time between two checkpoints in minutes, epochs between saved weights, and how many of them to keep."""

    minutes: float
    save_agent_every: int
    num_to_keep: int | None


@dataclass(frozen=True, kw_only=True)
class FirstEpochConfig:
    """Steps of the first collection: at least `min`, at most `max`.

    It stops between them once `threshold_rew` rewards have been seen whose sign is not the most common one.
    """

    min: int
    max: int
    threshold_rew: int


@dataclass(frozen=True, kw_only=True)
class TrainCollectionConfig:
    """Collection of training experience; a random action is taken with probability `epsilon`."""

    num_envs: int
    epsilon: float
    num_steps_total: int
    steps_per_epoch: int
    first_epoch: FirstEpochConfig

    def collect(self, epoch: int) -> Collect:
        """The collection at the start of an epoch (counted from 1)."""
        first = self.first_epoch
        return Collect(first.min, first.max, first.threshold_rew) if epoch == 1 else Collect(self.steps_per_epoch)


@dataclass(frozen=True, kw_only=True)
class TestCollectionConfig:
    """Test episodes: `num_episodes` at each evaluation, `num_final_episodes` at the end of the run."""

    num_envs: int
    epsilon: float
    num_episodes: int
    num_final_episodes: int


@dataclass(frozen=True, kw_only=True)
class CollectionConfig:
    train: TrainCollectionConfig
    test: TestCollectionConfig


@dataclass(frozen=True, kw_only=True)
class StaticDatasetConfig:
    """A data set to train on instead of an environment; `num_workers` threads prefetch batches from disk."""

    path: str | None
    path_full_res: str | None
    num_actions: int | None
    ignore_sample_weights: bool
    num_workers: int


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Device memory, precision and compilation, and the number of epochs after the last collection.

    With `offload_idle`, components that are not being trained are kept in main memory, with their optimizers.
    """

    num_final_epochs: int
    precision: str
    compile: bool | str
    replay_device: str
    offload_idle: bool


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Epochs between evaluations, whether to evaluate the untrained agent, and frames in each scene of the video.

    A component is tested on at most `max_batches` batches, spread over the test data (None: on all of it).
    """

    every: int
    untrained: bool
    video_steps: int
    max_batches: int | None


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

    def check(self) -> None:
        """Raise UserError for values that cannot be trained with."""
        train, test = self.collection.train, self.collection.test
        first = train.first_epoch
        if first.min > first.max:
            raise UserError(f"collection.train.first_epoch.min={first.min} is larger than its max={first.max}.")
        for name, value in (
            ("collection.train.num_envs", train.num_envs),
            ("collection.train.steps_per_epoch", train.steps_per_epoch),
            ("collection.test.num_envs", test.num_envs),
            ("evaluation.every", self.evaluation.every),
            ("checkpointing.save_agent_every", self.checkpointing.save_agent_every),
        ):
            require_positive(name, value)


def require_positive(name: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{name}={value} must be at least 1.")
