"""The training loop of any module. It can stop and resume between any two updates."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from data import Draws
from errors import UserError
from finite import FiniteGuard, NotFinite
from models.metrics import MetricAverages, Metrics
from optimizers import TrainingConfig
from run.device import autocast
from run.ranks import Ranks

TEST_SEED = 0
LOSS_SCALE = 1024.0
"""Of losses in float16, in which small gradients would be zero (Micikevicius et al. 2018, section 3.2)."""


class Component:
    """A module with its optimizer, learning rate schedule, source of batches and settings.

    The module's `forward(batch)` returns a loss and metrics, and may return more values for the `after_update` hook.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        next_batch: Callable[[], tuple[Any, Metrics]],
        training: TrainingConfig,
        make_optimizer: Callable[[nn.Module], Optimizer],
        precision: torch.dtype,
        ranks: Ranks,
        *,
        test_draws: Draws | None = None,
        before_phase: Callable[[], None] | None = None,
        after_update: Callable[[list[tuple[Any, ...]]], None] | None = None,
        lr_factor: Callable[[int], float] | None = None,
        networks: Mapping[str, nn.Module] | None = None,
        rests_in_memory: bool = False,
    ) -> None:
        """`next_batch()` returns the argument of the module's `forward`, and metrics from making it.

        `test_draws` gives the test batches; without it, the module is not tested. `before_phase()` is called before the
        first update of each phase. `after_update(batches)` is called after each update, with one tuple for each
        accumulated batch: the batch, and what `forward` returned after loss and metrics. `lr_factor(n)` multiplies the
        learning rate after n updates; by default it rises to 1 within `lr_warmup_steps` updates. `networks`: parts of
        the module by name, whose gradients' norms before clipping are metrics. With `rests_in_memory`, module and
        optimizer are kept in main memory except inside `at_work`.
        """
        self.name = name
        self.device = ranks.device
        self.home = torch.device("cpu") if rests_in_memory else ranks.device
        self.module = module.to(self.home, memory_format=torch.channels_last)
        self.next_batch = next_batch
        self.training = training
        self.precision = precision
        self._loss_scale = LOSS_SCALE if precision == torch.float16 else 1.0
        self.test_draws = test_draws
        self.num_updates = 0
        self.num_updates_in_phase = 0
        self._networks = dict(networks or {})
        self._before_phase = before_phase
        self._after_update = after_update
        self._averages, self._read_so_far = MetricAverages(), MetricAverages()
        self._optimizer = make_optimizer(module)
        warmup = max(1, training.lr_warmup_steps)
        self._schedule = LambdaLR(self._optimizer, lr_factor or (lambda update: min(1.0, (update + 1) / warmup)))
        self._guard = FiniteGuard(name, self.device)
        self._is_alone = ranks.world_size == 1
        self._forward = self.module
        if self.home == self.device:
            self._share_gradients()

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return self._schedule.get_last_lr()[0]

    @contextlib.contextmanager
    def at_work(self, trains: bool = True) -> Iterator[None]:
        """Keep the module on the device, and its optimizer too if it `trains`. All ranks have to enter together."""
        moves = self.home != self.device
        if moves:
            self._move_to(self.device, trains)
        try:
            yield
        finally:
            if moves:
                self._move_to(self.home, False)

    def update(self) -> None:
        """One step of the optimizer, without waiting for the device.

        From the first loss or gradients that are not finite, the weights are left as they are: `check_finite` raises
        NotFinite at the next reading.
        """
        if self._before_phase is not None and self.num_updates_in_phase == 0:
            self._before_phase()
        self.module.train()
        self._optimizer.zero_grad()
        batches = []
        for index in range(self.training.grad_acc_steps):
            batch, metrics_of_batch = self.next_batch()
            with self._sharing_gradients(index + 1 == self.training.grad_acc_steps):
                with autocast(self.device, self.precision):
                    loss, metrics, *rest = self._forward(batch)
                loss = self._guard.see_loss(loss, self.num_updates + 1) / self.training.grad_acc_steps
                (loss * self._loss_scale).backward()
            self._averages.add({**metrics_of_batch, **metrics})
            if self._after_update is not None:
                batches.append((batch, *rest))
        if self._loss_scale != 1:
            torch._foreach_mul_(self._gradients(), 1 / self._loss_scale)
        self._guard.see_gradients(self._clip(), self.num_updates + 1)
        self._guard.step(self._optimizer)
        self._schedule.step()
        self.num_updates += 1
        self.num_updates_in_phase += 1
        if self._after_update is not None:
            self._after_update(batches)

    def _gradients(self) -> list[Tensor]:
        return [each.grad for each in self.module.parameters() if each.grad is not None]

    def _clip(self) -> Tensor:
        """Clip the gradients; returns their norm afterwards."""
        parameters, limit = list(self.module.parameters()), self.training.max_grad_norm
        norm = _grad_norm(parameters)
        norms = {f"grad_norm_{name}": _grad_norm(each.parameters()) for name, each in self._networks.items()}
        self._averages.add(norms)
        if limit is None:
            self._averages.add({"grad_norm": norm})
            return norm
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        self._averages.add({"grad_norm_before_clip": norm})
        return norm * (limit / (norm + 1e-6)).clamp(max=1)

    def _move_to(self, device: torch.device, trains: bool) -> None:
        self._optimizer.zero_grad()
        self.module.to(device)
        optimizer_device = device if trains else self.home
        for state in self._optimizer.state.values():
            for name, value in state.items():
                state[name] = value.to(optimizer_device)
        # Gradient synchronisation is attached to the parameters, and is lost when they are moved. Without it, no
        # buckets of gradients remain on the device.
        self._forward = self.module
        if trains:
            self._share_gradients()

    def _share_gradients(self) -> None:
        if not self._is_alone:
            self._forward = DistributedDataParallel(self.module)
            # Buffers are equal on all ranks. The argument for this has another name in each version of PyTorch.
            self._forward.broadcast_buffers = False

    def _sharing_gradients(self, is_last: bool) -> contextlib.AbstractContextManager:
        """Ranks exchange their gradients once in an update: in the backward pass of its last batch."""
        return contextlib.nullcontext() if self._is_alone or is_last else self._forward.no_sync()

    def read_loss(self) -> float:
        """The average loss of this phase so far. Waits for the device; raises NotFinite as `check_finite` does."""
        self.check_finite()
        return next((value for name, value in self._averages.read().items() if name.startswith("loss")), float("nan"))

    def check_finite(self) -> None:
        """Raise NotFinite if a loss or gradients so far, or the weights, are infinite or not a number.

        Weights count as infinite if the sum of their squares is: nothing can be computed with them.
        """
        self._guard.check()
        self._guard.check_weights(self.module, self.num_updates)

    def read_recent(self) -> dict[str, float]:
        """The averages of this phase's metrics since the last call. Waits for the device; raises NotFinite."""
        self.check_finite()
        recent = self._averages.since(self._read_so_far).read()
        self._read_so_far = self._averages.copy()
        return {**recent, **self._rates()}

    def finish_phase(self) -> dict[str, float]:
        """Return the averages of this phase's metrics, and reset them for the next phase."""
        self.check_finite()
        metrics = {**self._averages.read(), **self._rates()}
        self._averages, self._read_so_far, self.num_updates_in_phase = MetricAverages(), MetricAverages(), 0
        return metrics

    def _rates(self) -> dict[str, float]:
        groups = {f"lr_{each['name']}": each["lr"] for each in self._optimizer.param_groups if "name" in each}
        return {"lr": self.lr, **groups}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        """Averages of the metrics over the given batches, weighted by their lengths.

        What is drawn is the same at every call, so that losses of several epochs can be compared. Raises NotFinite if a
        loss is not finite.
        """
        averages = MetricAverages()
        self.module.eval()
        with _same_draws(self.device):
            for batch in batches:
                with autocast(self.device, self.precision):
                    _, metrics, *_ = self.module(batch)
                averages.add(metrics, weight=len(batch))
        numbers = averages.read()
        if not all(math.isfinite(value) for name, value in numbers.items() if name.startswith("loss")):
            raise NotFinite("test loss", self.name, f"after its update {self.num_updates}")
        return numbers

    def state_dict(self) -> dict[str, Any]:
        """All state except the module's weights, which the agent saves."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "num_updates": self.num_updates,
            "num_updates_in_phase": self.num_updates_in_phase,
            "averages": self._averages.state_dict(),
            "read_so_far": self._read_so_far.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.num_updates = state["num_updates"]
        self.num_updates_in_phase = state["num_updates_in_phase"]
        self._averages.load_state_dict(state["averages"], self.device)
        if "read_so_far" in state:
            self._read_so_far.load_state_dict(state["read_so_far"], self.device)


def _grad_norm(parameters: Iterable[Tensor]) -> Tensor:
    return nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])


@contextlib.contextmanager
def _same_draws(device: torch.device) -> Iterator[None]:
    """A context in which random numbers are the same every time; afterwards they continue as if nothing was drawn."""
    if device.type not in ("cpu", "cuda"):
        # The state of other devices' generators cannot be set aside.
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(TEST_SEED)
        yield


def share_of_batch(name: str, training: TrainingConfig, ranks: Ranks) -> int:
    """The batch size of this rank; raises UserError if the batch cannot be divided equally among the ranks."""
    if training.batch_size % ranks.world_size:
        setting = f"{name}.training.batch_size={training.batch_size}"
        raise UserError(f"{setting} cannot be shared equally by {ranks.world_size} processes.")
    return training.batch_size // ranks.world_size
