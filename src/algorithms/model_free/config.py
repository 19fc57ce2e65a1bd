"""Settings that all model-free algorithms share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from algorithms.config import TrainerConfig
from data import Spaces
from envs import frame_shape
from errors import UserError
from models.model_free import TrunkConfig
from optimizers import TrainingConfig
from ranges import Above, BadSetting

MaxGradNorm = Annotated[float, Above(0, 1e6)] | None


@dataclass(frozen=True, kw_only=True)
class ModelFreeConfig(TrainerConfig):
    """`agent`: the layers from frames to features, of every network."""

    agent: TrunkConfig

    def check(self) -> None:
        super().check()
        self.check_collects()
        try:
            self.agent.check(frame_shape(self.env.train))
        except BadSetting as error:
            raise UserError(f"agent and env.train.size do not fit together: {error}") from None
        if self.evaluation.video_interval is not None:
            raise UserError(
                f"evaluation.video_interval={self.evaluation.video_interval} must be null: "
                f"algorithm={self.algorithm.name} has no world to film."
            )


def plain_training(batch_size: int, max_grad_norm: float | None) -> TrainingConfig:
    """What the training loop needs to know of an algorithm whose phases say how many updates there are."""
    none = {"start_after_epochs": 0, "steps_first_epoch": 0, "steps_per_epoch": 0, "lr_warmup_steps": 0}
    return TrainingConfig(**none, batch_size=batch_size, max_grad_norm=max_grad_norm)


def require_numbered(spaces: Spaces, name: str) -> int:
    """The number of actions; raises UserError unless they are numbered."""
    if spaces.actions.kind != "numbered":
        raise UserError(f"The actions of this data are {spaces.actions}, and algorithm={name} needs numbered ones.")
    return spaces.actions.size


def count_outputs(weights: Mapping[str, Tensor], layer: str, name: str) -> int:
    """The number of actions that an agent was made for, from its last layer; raises UserError if it has none."""
    bias = weights.get(f"{layer}.bias")
    if bias is None:
        raise UserError(f"These weights have no {layer}: they are not of algorithm={name}.")
    return len(bias)
