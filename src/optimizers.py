"""Settings of training: the optimizer, and the schedule of updates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from errors import UserError
from ranges import Above, BadSetting, Count, Positive, Weight, Whole

DECAYS = ("layers", "all")

Moments = Mapping[str, Mapping[str, Tensor]]
"""The state of AdamW for each parameter, by the parameter's name."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW. With `decays=layers`, weight decay applies to the weights of linear, convolutional and recurrent layers.

    With `decays=all` it applies to every parameter, as where PyTorch's AdamW is given a network's parameters.
    """

    lr: Positive
    weight_decay: Weight
    eps: Annotated[float, Above(0, 1)] = 1e-8
    decays: str = "layers"

    def __post_init__(self) -> None:
        if self.decays not in DECAYS:
            raise BadSetting(f"decays={self.decays} is unknown: use {' or '.join(DECAYS)}.")

    def make(self, module: nn.Module, moments: Moments | None = None) -> Optimizer:
        """AdamW for a module; `moments` continues earlier training. They have to fit the parameters."""
        groups: list[dict[str, Any]] = [{"params": list(module.parameters()), "weight_decay": self.weight_decay}]
        if self.decays == "layers":
            groups = decay_groups(module, self.weight_decay)
        optimizer = AdamW(groups, lr=self.lr, eps=self.eps, fused=True)
        for name, parameter in module.named_parameters() if moments is not None else ():
            own = {key: value.to(parameter.device, copy=True) for key, value in moments[name].items()}
            optimizer.state[parameter] = own
        return optimizer


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Number of updates in each epoch, batch size, learning rate warmup and gradient clipping.

    `steps_first_epoch` and `steps_per_epoch` are None for as many updates as the data has batches (see `over`).
    `batch_size` is the number of segments (or imagined environments) of one backward pass, summed over all ranks; an
    update accumulates the gradients of `grad_acc_steps` passes.
    """

    start_after_epochs: Whole
    steps_first_epoch: Whole | None
    steps_per_epoch: Whole | None
    batch_size: Count
    lr_warmup_steps: Whole
    max_grad_norm: Annotated[float, Above(0, math.inf)] | None
    grad_acc_steps: Count = 1

    def updates(self, epoch: int) -> int:
        """The number of updates in an epoch (counted from 1)."""
        if epoch <= self.start_after_epochs:
            return 0
        return self.steps_first_epoch if epoch == self.start_after_epochs + 1 else self.steps_per_epoch

    def __post_init__(self) -> None:
        """Epochs without a number of updates need segments that can be counted."""
        for setting in ("steps_first_epoch", "steps_per_epoch"):
            if getattr(self, setting) is None:
                raise BadSetting(f"{setting}=null needs only_whole_segments=true: give a number.")

    def over(self, name: str, num_segments: int) -> "TrainingConfig":
        """The schedule for data with this number of segments: epochs without a number of updates see each once.

        Raises UserError if there are no segments, or, for such epochs, no whole batch of them.
        """
        if num_segments == 0:
            raise UserError(f"No episode is as long as the segments of {name}.training: use longer ones.")
        if None not in (self.steps_first_epoch, self.steps_per_epoch):
            return self
        count = num_segments // self.batch_size
        if count == 0:
            raise UserError(
                f"The data has {num_segments} segments, fewer than {name}.training.batch_size={self.batch_size}: "
                "reduce it, or use more data."
            )
        first, others = (count if each is None else each for each in (self.steps_first_epoch, self.steps_per_epoch))
        return replace(self, steps_first_epoch=first, steps_per_epoch=others)


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups: weights of linear, convolutional and recurrent layers, with weight decay; all others."""
    decayed = {
        id(parameter)
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.LSTM | nn.LSTMCell)
        for name, parameter in layer.named_parameters(recurse=False)
        if name.startswith("weight")
    }
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]
