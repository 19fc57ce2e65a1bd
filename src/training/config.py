"""The settings of a training run, as typed as the YAML is not."""

from dataclasses import dataclass

from omegaconf import DictConfig

from agent import AGENT_TARGETS, COMPONENTS, AgentConfig
from component import OptimizerConfig, TrainingConfig
from envs import ENV_TARGETS, EnvConfig, WorldModelEnvConfig
from errors import UserError
from models.actor_critic import ActorCriticLossConfig
from models.diffusion import SigmaDistributionConfig
from run.config import build, build_as
from run.log import WandbConfig

TARGETS = {
    **AGENT_TARGETS,
    **ENV_TARGETS,
    "models.diffusion.SigmaDistributionConfig": SigmaDistributionConfig,
    "models.actor_critic.ActorCriticLossConfig": ActorCriticLossConfig,
}


@dataclass(frozen=True)
class FirstEpochConfig:
    """Steps of the first collection: `max` at most, fewer once rewards of the minority signs number `threshold_rew`."""

    min: int
    max: int
    threshold_rew: int


@dataclass(frozen=True)
class TrainCollectionConfig:
    """Collection of experience to learn from."""

    num_envs: int
    epsilon: float
    num_steps_total: int
    steps_per_epoch: int
    first_epoch: FirstEpochConfig


@dataclass(frozen=True)
class TestCollectionConfig:
    """Episodes played to evaluate: at each evaluation, and at the end of the run."""

    num_envs: int
    epsilon: float
    num_episodes: int
    num_final_episodes: int


@dataclass(frozen=True)
class StaticDatasetConfig:
    """A data set to train on instead of an environment; `num_workers` read ahead what is not in memory."""

    path: str | None
    path_full_res: str | None
    num_actions: int | None
    ignore_sample_weights: bool
    num_workers: int


@dataclass(frozen=True)
class InitializationConfig:
    """Weights to start from, and which of them."""

    path_to_ckpt: str | None
    load_denoiser: bool
    load_upsampler: bool
    load_rew_end_model: bool
    load_actor_critic: bool

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(name for name in COMPONENTS if getattr(self, f"load_{name}"))


@dataclass(frozen=True)
class CheckpointingConfig:
    """Minutes between checkpoints at most, epochs between kept weights, and how many of those are kept."""

    minutes: float
    save_agent_every: int
    num_to_keep: int | None


@dataclass(frozen=True)
class RunConfig:
    """How the run computes, and how long it goes on after collection.

    `gradient_checkpointing` trades time for memory; `offload_idle` keeps weights and optimizers of components that are
    not at work in main memory, in agents without a policy.
    """

    num_final_epochs: int
    model_free: bool
    precision: str
    compile: bool | str
    replay_device: str
    gradient_checkpointing: bool
    offload_idle: bool


@dataclass(frozen=True)
class EvaluationConfig:
    """Epochs between evaluations, whether the untrained agent is evaluated, and frames a scene of the video.

    A component is tested on `max_batches` at most, spread over the test data (None: on all of it).
    """

    every: int
    untrained: bool
    video_steps: int
    max_batches: int | None


@dataclass(frozen=True, kw_only=True)
class DenoiserTraining(TrainingConfig):
    """Schedule of the denoiser or upsampler.

    `num_autoregressive_steps` predictions follow the first one, on top of earlier ones.
    """

    num_autoregressive_steps: int
    sample_weights: tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True)
class RewEndTraining(TrainingConfig):
    """Schedule of the reward and termination model, on segments of `seq_length` steps."""

    seq_length: int
    sample_weights: tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True)
class ActorCriticTraining(TrainingConfig):
    """Schedule of the actor-critic; `sample_weights` hold for the starts of imagination."""

    sample_weights: tuple[float, ...] | None


@dataclass(frozen=True)
class TrainerConfig:
    """All settings of a run. `agent` lacks the number of actions, which only the environment or the data knows."""

    seed: int
    agent: DictConfig
    env_train: EnvConfig
    env_test: EnvConfig
    world_model_env: WorldModelEnvConfig
    collect_train: TrainCollectionConfig
    collect_test: TestCollectionConfig
    static_dataset: StaticDatasetConfig
    initialization: InitializationConfig
    checkpointing: CheckpointingConfig
    run: RunConfig
    evaluation: EvaluationConfig
    denoiser: DenoiserTraining
    upsampler: DenoiserTraining | None
    rew_end_model: RewEndTraining
    actor_critic: ActorCriticTraining
    optimizers: dict[str, OptimizerConfig]
    sigma_distributions: dict[str, SigmaDistributionConfig]
    actor_critic_loss: ActorCriticLossConfig
    wandb: WandbConfig

    @classmethod
    def from_yaml(cls, config: DictConfig) -> "TrainerConfig":
        """Read the composed configuration; raises UserError for values that cannot work."""
        settled = [name for name in COMPONENTS if config[name] is not None]
        typed = cls(
            seed=config.common.seed,
            agent=config.agent,
            env_train=build(config.env.train, TARGETS),
            env_test=build(config.env.test, TARGETS),
            world_model_env=build(config.world_model_env, TARGETS),
            collect_train=build_as(
                TrainCollectionConfig,
                config.collection.train,
                first_epoch=build_as(FirstEpochConfig, config.collection.train.first_epoch),
            ),
            collect_test=build_as(TestCollectionConfig, config.collection.test),
            static_dataset=build_as(StaticDatasetConfig, config.static_dataset),
            initialization=build_as(InitializationConfig, config.initialization),
            checkpointing=build_as(CheckpointingConfig, config.checkpointing),
            run=build_as(RunConfig, config.training),
            evaluation=build_as(EvaluationConfig, config.evaluation),
            denoiser=build_as(DenoiserTraining, config.denoiser.training),
            upsampler=build_as(DenoiserTraining, config.upsampler.training) if "upsampler" in settled else None,
            rew_end_model=build_as(RewEndTraining, config.rew_end_model.training),
            actor_critic=build_as(ActorCriticTraining, config.actor_critic.training),
            optimizers={name: build_as(OptimizerConfig, config[name].optimizer) for name in settled},
            sigma_distributions={
                name: build(config[name].sigma_distribution, TARGETS)
                for name in ("denoiser", "upsampler")
                if name in settled
            },
            actor_critic_loss=build(config.actor_critic.actor_critic_loss, TARGETS),
            wandb=build_as(WandbConfig, config.wandb),
        )
        typed._check()
        return typed

    def build_agent_config(self, num_actions: int) -> AgentConfig:
        return build(self.agent, TARGETS, num_actions=num_actions)

    @property
    def upsampling_factor(self) -> int:
        return self.agent.upsampler.upsampling_factor

    def _check(self) -> None:
        has_upsampler = self.agent.get("upsampler") is not None
        has_policy = self.agent.get("actor_critic") is not None
        if has_upsampler != (self.upsampler is not None):
            there, missing = ("agent.upsampler", "upsampler") if has_upsampler else ("upsampler", "agent.upsampler")
            raise UserError(f"{there} is set, but {missing} is not: an upsampler needs networks and a schedule.")
        if has_upsampler and not self.agent.upsampler.get("upsampling_factor"):
            raise UserError("agent.upsampler.upsampling_factor is missing: how many times larger its frames are.")
        if (has_upsampler or not has_policy) and self.static_dataset.path is None:
            lacks = "with an upsampler" if has_policy else "without a policy"
            raise UserError(f"An agent {lacks} cannot collect: set static_dataset.path to recordings.")
        if has_policy and self.run.offload_idle:
            raise UserError("training.offload_idle=true is for agents without a policy, whose components work alone.")
        first, every = self.collect_train.first_epoch, self.evaluation.every
        if first.min > first.max:
            raise UserError(f"collection.train.first_epoch.min={first.min} is larger than its max={first.max}.")
        positive = {
            "collection.train.num_envs": self.collect_train.num_envs,
            "collection.train.steps_per_epoch": self.collect_train.steps_per_epoch,
            "collection.test.num_envs": self.collect_test.num_envs,
            "evaluation.every": every,
            "checkpointing.save_agent_every": self.checkpointing.save_agent_every,
            "world_model_env.horizon": self.world_model_env.horizon,
        }
        for name, value in positive.items():
            if value < 1:
                raise UserError(f"{name}={value} must be at least 1.")
