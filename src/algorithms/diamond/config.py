"""DIAMOND's settings: networks, imagination, and a section for each component."""

from dataclasses import dataclass
from typing import Annotated

from agent import AgentConfig
from algorithms.config import InitializationConfig, RunConfig, TrainerConfig
from envs import WorldModelEnvConfig, frame_shape
from errors import UserError
from models.actor_critic import ActorCriticLossConfig
from models.blocks import height_width
from models.diffusion import SigmaDistributionConfig
from optimizers import OptimizerConfig, TrainingConfig
from ranges import BadSetting, Between, SampleWeights, in_yaml


@dataclass(frozen=True, kw_only=True)
class DenoiserTraining(TrainingConfig):
    """Schedule of the denoiser or upsampler.

    After the first prediction, `num_autoregressive_steps` more are made from a history with the earlier predictions.
    With `only_whole_segments`, none begins before its episode, where frames would be grey, and each is drawn as often
    as any other.
    """

    num_autoregressive_steps: Annotated[int, Between(0, 1000)]
    sample_weights: SampleWeights | None
    only_whole_segments: bool = False

    def __post_init__(self) -> None:
        if not self.only_whole_segments:
            super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class RewEndTraining(TrainingConfig):
    """Schedule of the reward and termination model, on segments of `seq_length` steps."""

    seq_length: Annotated[int, Between(2, 100_000)]
    sample_weights: SampleWeights | None


@dataclass(frozen=True, kw_only=True)
class ActorCriticTraining(TrainingConfig):
    """Schedule of the actor-critic; `sample_weights` weigh the episodes that imagination starts from."""

    sample_weights: SampleWeights | None


@dataclass(frozen=True, kw_only=True)
class DenoiserSection:
    training: DenoiserTraining
    optimizer: OptimizerConfig
    sigma_distribution: SigmaDistributionConfig


@dataclass(frozen=True, kw_only=True)
class RewEndSection:
    training: RewEndTraining
    optimizer: OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class ActorCriticSection:
    training: ActorCriticTraining
    optimizer: OptimizerConfig
    actor_critic_loss: ActorCriticLossConfig


@dataclass(frozen=True, kw_only=True)
class DiamondInitialization(InitializationConfig):
    """Which components are initialised from the weights in `path_to_ckpt`.

    With `load_optimizer`, the denoiser's optimizer continues from the state in that file, if it is one of the published
    kitchen predictor.
    """

    load_denoiser: bool
    load_upsampler: bool
    load_rew_end_model: bool
    load_actor_critic: bool
    load_optimizer: bool = False

    def __post_init__(self) -> None:
        if self.load_optimizer and not (self.load_denoiser and self.path_to_ckpt):
            raise BadSetting("load_optimizer=true needs load_denoiser=true, and a path_to_ckpt.")

    @property
    def components(self) -> tuple[str, ...]:
        names = ("denoiser", "upsampler", "rew_end_model", "actor_critic")
        return tuple(name for name in names if getattr(self, f"load_{name}"))


@dataclass(frozen=True, kw_only=True)
class DiamondRunConfig(RunConfig):
    """`model_free` trains only the policy, in the real game; `gradient_checkpointing` saves memory and costs time."""

    model_free: bool
    gradient_checkpointing: bool


@dataclass(frozen=True, kw_only=True)
class DiamondConfig(TrainerConfig):
    """All settings of a run. `agent.num_actions` is not among them: it comes from the environment or the data."""

    initialization: DiamondInitialization
    training: DiamondRunConfig
    agent: AgentConfig
    world_model_env: WorldModelEnvConfig
    denoiser: DenoiserSection
    upsampler: DenoiserSection | None
    rew_end_model: RewEndSection
    actor_critic: ActorCriticSection

    def check(self) -> None:
        super().check()
        for name in ("rew_end_model", "actor_critic"):
            if (network := getattr(self.agent, name)) is not None:
                seen, frames = network.img_size, frame_shape(self.env.train)[1:]
                if height_width(seen) != frames:
                    raise UserError(f"agent.{name}.img_size={in_yaml(seen)} is not the size of the frames, {frames}.")
        has_upsampler, has_policy = self.agent.upsampler is not None, self.agent.actor_critic is not None
        if has_upsampler != (self.upsampler is not None):
            there, missing = ("agent.upsampler", "upsampler") if has_upsampler else ("upsampler", "agent.upsampler")
            raise UserError(f"{there} is set, but {missing} is not: an upsampler needs networks and a schedule.")
        if has_upsampler and not self.agent.upsampler.upsampling_factor:
            raise UserError("agent.upsampler.upsampling_factor is missing: how many times larger its frames are.")
        if (has_upsampler or not has_policy) and self.static_dataset.path is None:
            lacks = "with an upsampler" if has_policy else "without a policy"
            raise UserError(f"An agent {lacks} cannot collect: set static_dataset.path to recordings.")
        if has_upsampler and self.static_dataset.stride > 1:
            raise UserError(
                f"static_dataset.stride={self.static_dataset.stride} must be 1 for agents with an upsampler."
            )
        if has_policy and self.training.offload_idle:
            raise UserError(
                "training.offload_idle=true needs an agent without a policy: set agent.actor_critic=null, or "
                "training.offload_idle=false."
            )
