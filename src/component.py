"""How any module is trained: the one loop of updates, which can stop and go on between any two of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from run.device import autocast
from run.ranks import Ranks

Metrics = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """When and how long a component trains, on what, and how its gradient is treated.

    `batch_size` counts the segments (or imagined environments) of one backward pass on all ranks together; an update
    accumulates `grad_acc_steps` of them.
    """

    start_after_epochs: int
    steps_first_epoch: int
    steps_per_epoch: int
    batch_size: int
    lr_warmup_steps: int
    max_grad_norm: float | None
    grad_acc_steps: int = 1


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW; the weight decay holds for weights of linear, convolutional and recurrent layers only."""

    lr: float
    weight_decay: float
    eps: float = 1e-8


class LossNotFinite(Exception):
    """A loss became infinite or not a number."""

    def __init__(self, component: str, update: int) -> None:
        super().__init__(f"The loss of the {component} is not finite at its update {update}.")


class Component:
    """A module with its optimizer, schedule, batches and settings."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        next_batch: Callable[[], tuple[Any, Metrics]],
        training: TrainingConfig,
        optimizer: OptimizerConfig,
        precision: torch.dtype,
        ranks: Ranks,
    ) -> None:
        """`next_batch()` returns what the module's `forward` takes, and metrics of its making.

        The module maps a batch to a loss and metrics.
        """
        self.name = name
        self.module = module.to(ranks.device, memory_format=torch.channels_last)
        self.next_batch = next_batch
        self.training = training
        self.precision = precision
        self.device = ranks.device
        self.num_updates = 0
        self.num_updates_in_epoch = 0
        self._averages = MetricAverages()
        self._optimizer = AdamW(
            decay_groups(module, optimizer.weight_decay), lr=optimizer.lr, eps=optimizer.eps, fused=True
        )
        warmup = max(1, training.lr_warmup_steps)
        self._schedule = LambdaLR(self._optimizer, lambda update: min(1.0, (update + 1) / warmup))
        self._first_not_finite = torch.full((), -1, device=self.device)
        self._is_alone = ranks.world_size == 1
        self._share_gradients()

    def updates_in_epoch(self, epoch: int) -> int:
        """How many updates the schedule gives to an epoch (from 1)."""
        training = self.training
        if epoch <= training.start_after_epochs:
            return 0
        return training.steps_first_epoch if epoch == training.start_after_epochs + 1 else training.steps_per_epoch

    def update(self) -> None:
        """One step of the optimizer; nothing here waits for the device."""
        self.module.train()
        self._optimizer.zero_grad()
        for _ in range(self.training.grad_acc_steps):
            batch, metrics_of_batch = self.next_batch()
            with autocast(self.device, self.precision):
                loss, metrics = self._forward(batch)
            (loss / self.training.grad_acc_steps).backward()
            self._averages.add({**metrics_of_batch, **metrics})
            first_time = (self._first_not_finite < 0) & ~loss.detach().isfinite()
            self._first_not_finite = torch.where(first_time, self.num_updates + 1, self._first_not_finite)
        if self.training.max_grad_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.training.max_grad_norm)
            self._averages.add({"grad_norm_before_clip": norm})
        self._optimizer.step()
        self._schedule.step()
        self.num_updates += 1
        self.num_updates_in_epoch += 1

    def move_to(self, device: torch.device, is_trained: bool) -> None:
        """Have the module on a device; its optimizer goes along if it is trained there, else to main memory.

        All ranks call this together.
        """
        self._optimizer.zero_grad()
        self.module.to(device)
        optimizer_device = device if is_trained else torch.device("cpu")
        for state in self._optimizer.state.values():
            for name, value in state.items():
                state[name] = value.to(optimizer_device)
        if is_trained:
            # A parameter that was moved no longer tells the other ranks of its gradient.
            self._share_gradients()

    def _share_gradients(self) -> None:
        # Buffers are constants, equal on all ranks from the start.
        self._forward = self.module if self._is_alone else DistributedDataParallel(self.module, broadcast_buffers=False)

    def read_loss(self) -> float:
        """The average loss in this epoch so far. Waits for the device; raises LossNotFinite if it ever was not."""
        self.check_finite()
        return next((value for name, value in self._averages.read().items() if name.startswith("loss")), float("nan"))

    def check_finite(self) -> None:
        """Raise LossNotFinite if a loss was infinite or not a number since the start."""
        update = int(self._first_not_finite)
        if update >= 0:
            raise LossNotFinite(self.name, update)

    def finish_epoch(self) -> dict[str, float]:
        """The averages of this epoch's metrics, which then begin anew."""
        self.check_finite()
        metrics = {**self._averages.read(), "lr": self._schedule.get_last_lr()[0]}
        self._averages, self.num_updates_in_epoch = MetricAverages(), 0
        return metrics

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        """Averages of the metrics on other batches, each weighted by its length."""
        averages = MetricAverages()
        self.module.eval()
        for batch in batches:
            with autocast(self.device, self.precision):
                _, metrics = self.module(batch)
            averages.add(metrics, weight=len(batch))
        return averages.read()

    def state_dict(self) -> dict[str, Any]:
        """All but the module's weights, which are the agent's to save."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "num_updates": self.num_updates,
            "num_updates_in_epoch": self.num_updates_in_epoch,
            "averages": self._averages.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.num_updates = state["num_updates"]
        self.num_updates_in_epoch = state["num_updates_in_epoch"]
        self._averages.load_state_dict(state["averages"], self.device)


class MetricAverages:
    """Weighted averages of numbers, and sums of confusion matrices, that stay on the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def add(self, metrics: Metrics, weight: float = 1.0) -> None:
        for name, value in metrics.items():
            weighted = value * weight if value.ndim == 0 else value
            self._sums[name] = self._sums[name] + weighted if name in self._sums else weighted.clone()
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def read(self) -> dict[str, float]:
        """Averages; a matrix of (true, predicted) counts becomes recall and precision of each class."""
        numbers = {}
        for name, total in self._sums.items():
            if total.ndim == 0:
                numbers[name] = float(total) / self._weights[name]
            else:
                numbers |= _recall_and_precision(name, total.cpu())
        return numbers

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._weights = dict(state["weights"])


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with weight decay (weights of linear, convolutional, recurrent layers), and those without."""
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


def _recall_and_precision(name: str, counts: Tensor) -> dict[str, float]:
    numbers = {}
    for index in range(len(counts)):
        for kind, total in (("recall", counts[index].sum()), ("precision", counts[:, index].sum())):
            # A class that never occurred has no recall, and one never predicted no precision.
            if total > 0:
                numbers[f"{name}/{kind}_{index}"] = float(counts[index, index] / total)
    return numbers
