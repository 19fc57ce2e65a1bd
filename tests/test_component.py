"""The loop of updates."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from component import Component
from finite import NotFinite
from models.diffusion import Denoiser, DenoiserConfig, InnerModelConfig
from models.metrics import MetricAverages
from models.rew_end_model import RewEndModel, RewEndModelConfig
from optimizers import OptimizerConfig, TrainingConfig, decay_groups
from ranges import BadSetting
from run.ranks import Ranks

CPU = torch.device("cpu")
ADAMW = OptimizerConfig(lr=0.05, weight_decay=0.0)


class Line(nn.Module):
    """Fits y = 3 x."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        prediction = self.layer(batch)
        loss = (prediction - 3 * batch).pow(2).mean()
        return loss, {"loss": loss.detach()}, prediction


def make(
    batches: list[Tensor] | None = None,
    hooks: dict[str, Any] | None = None,
    module: nn.Module | None = None,
    make_optimizer: Callable[[nn.Module], Optimizer] = ADAMW.make,
    precision: torch.dtype = torch.float32,
    **settings: object,
) -> Component:
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)
    given = iter(batches or [])
    defaults = {
        "start_after_epochs": 0,
        "steps_first_epoch": 5,
        "steps_per_epoch": 2,
        "batch_size": 8,
        "lr_warmup_steps": 4,
        "max_grad_norm": None,
    }
    return Component(
        "line",
        module or Line(),
        lambda: (next(given, None) if batches else torch.randn(8, 1, generator=rng), {}),
        TrainingConfig(**{**defaults, **settings}),
        make_optimizer,
        precision,
        Ranks(0, 1, CPU),
        **(hooks or {}),
    )


def test_it_learns() -> None:
    component = make()
    for _ in range(300):
        component.update()
    assert component.module.layer.weight.item() == pytest.approx(3, abs=0.01)
    assert component.num_updates == 300


def test_schedule_of_epochs() -> None:
    training = make(start_after_epochs=2).training
    assert [training.updates(epoch) for epoch in range(1, 6)] == [0, 0, 5, 2, 2]


def test_warmup_is_linear() -> None:
    component, rates = make(), []
    for _ in range(6):
        rates.append(component.lr)
        component.update()
    assert rates == pytest.approx([0.0125, 0.025, 0.0375, 0.05, 0.05, 0.05])


def test_accumulated_gradients_equal_the_joined_batch() -> None:
    halves = list(torch.randn(2, 8, 1))
    one, two = make([torch.cat(halves)]), make(halves, grad_acc_steps=2)
    one.update()
    two.update()
    assert torch.allclose(one.module.layer.weight.grad, two.module.layer.weight.grad)
    assert torch.allclose(one.module.layer.weight, two.module.layer.weight)


def test_gradients_are_clipped() -> None:
    component = make(max_grad_norm=0.1)
    component.update()
    norm = torch.stack([parameter.grad.norm() for parameter in component.module.parameters()]).norm()
    assert float(norm) == pytest.approx(0.1, rel=1e-4)
    assert component.finish_phase()["grad_norm_before_clip"] > 0.1


def test_no_norm_is_above_an_infinite_limit() -> None:
    unlimited, limited = make(), make(max_grad_norm=float("inf"))
    for each in (unlimited, limited):
        each.update()
    assert torch.equal(limited.module.layer.weight, unlimited.module.layer.weight)
    limited.finish_phase()  # raises NotFinite if the norm was found to be infinite


def test_small_gradients_survive_float16() -> None:
    """A weight of 3 + 2⁻⁹ and inputs of 2⁻¹⁰ have a gradient of 2⁻²⁸; in float16, all below 2⁻²⁵ becomes zero."""

    class Small(Line):
        def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
            # Float16 from the layer's output on, as in a network whose last layer is in autocast.
            prediction = (self.layer(batch) - 3 * batch).half()
            loss = prediction.float().pow(2).mean()
            return loss, {"loss": loss.detach()}, prediction

    gradients = []
    for precision in (torch.float32, torch.float16):
        module = Small()
        component = make(module=module, precision=precision, batches=[torch.full((8, 1), 2.0**-10)])
        with torch.no_grad():
            module.layer.weight.fill_(3 + 2.0**-9)
            module.layer.bias.zero_()
        component.update()
        gradients.append(float(module.layer.weight.grad))
    assert gradients == [2.0**-28, 2.0**-28]


def test_norms_of_gradients_are_metrics_before_clipping() -> None:
    module = Line()
    component = make(module=module, hooks={"networks": {"layer": module.layer}}, max_grad_norm=1e-3)
    component.update()
    metrics = component.finish_phase()
    assert metrics["grad_norm_layer"] == pytest.approx(metrics["grad_norm_before_clip"])
    assert metrics["grad_norm_layer"] > 1e-3


def test_a_loss_that_is_not_finite_names_its_update() -> None:
    component = make([torch.ones(8, 1), torch.ones(8, 1), torch.full((8, 1), torch.inf), torch.ones(8, 1)])
    for _ in range(2):
        component.update()
    component.check_finite()
    for _ in range(2):
        component.update()
    with pytest.raises(NotFinite, match="The loss of the line is not finite at its update 3"):
        component.check_finite()


def test_gradients_are_checked_before_weights_change() -> None:
    """Also in the updates that follow before somebody looks, and with an optimizer that cannot skip a step itself."""

    class Root(nn.Module):
        """A finite loss whose gradient at zero is infinite."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            loss = (self.weight * batch).abs().sqrt().sum()
            return loss, {"loss": loss.detach()}

    batches = [torch.ones(2), torch.tensor([0.0, 1.0]), torch.ones(2), torch.ones(2)]
    for max_grad_norm in (None, 1.0):
        component = make(batches, module=Root(), max_grad_norm=max_grad_norm)
        component.update()
        component.check_finite()
        good = component.module.weight.detach().clone()
        for _ in range(3):
            component.update()
        assert torch.equal(component.module.weight, good)
        with pytest.raises(NotFinite, match="The gradients of the line are not finite at its update 2"):
            component.finish_phase()
    component = make(batches, module=Root(), make_optimizer=lambda module: torch.optim.SGD(module.parameters(), 0.1))
    component.update()
    good = component.module.weight.detach().clone()
    with pytest.raises(NotFinite, match="The gradients of the line are not finite at its update 2"):
        component.update()
    assert torch.equal(component.module.weight, good)


def test_clipping_that_spoils_gradients_is_noticed() -> None:
    component = make(max_grad_norm=float("nan"))
    good = component.module.layer.weight.detach().clone()
    component.update()
    assert torch.equal(component.module.layer.weight, good)
    with pytest.raises(NotFinite, match="The gradients of the line are not finite at its update 1"):
        component.check_finite()


def test_weights_that_are_too_large_are_noticed() -> None:
    component = make(make_optimizer=OptimizerConfig(lr=1e30, weight_decay=0.01).make)
    component.update()
    with pytest.raises(NotFinite, match="The weights of the line are not finite after its update 1"):
        component.check_finite()


def test_a_test_loss_that_is_not_finite_is_noticed() -> None:
    with pytest.raises(NotFinite, match="The test loss of the line is not finite after its update 0"):
        make().evaluate([torch.full((8, 1), torch.inf)])


def test_a_restored_component_continues_the_same() -> None:
    batches = list(torch.randn(7, 8, 1))
    whole, first = make(batches), make(batches[:3])
    for _ in range(7):
        whole.update()
    for _ in range(3):
        first.update()
    second = make(batches[3:])
    second.module.load_state_dict(first.module.state_dict())
    second.load_state_dict(first.state_dict())
    for _ in range(4):
        second.update()
    assert torch.equal(whole.module.layer.weight, second.module.layer.weight)
    assert second.num_updates_in_phase == 7
    assert second.finish_phase() == whole.finish_phase()


def test_evaluation_draws_the_same_every_time_and_leaves_no_trace() -> None:
    class Noisy(Line):
        def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
            loss = (batch + torch.randn_like(batch)).mean()
            return loss, {"loss": loss}, batch

    component, batches = make(module=Noisy()), [torch.zeros(3, 1), torch.zeros(2, 1)]
    torch.manual_seed(5)
    first = component.evaluate(batches)
    drawn = torch.randn(4)
    assert component.evaluate(batches) == first
    torch.manual_seed(5)
    assert torch.equal(torch.randn(4), drawn)


def test_evaluation_weighs_batches_by_length() -> None:
    component = make()
    batches = [torch.ones(2, 1), torch.zeros(6, 1)]
    losses = [float(component.module(batch)[0].detach()) for batch in batches]
    assert component.evaluate(batches)["loss"] == pytest.approx((2 * losses[0] + 6 * losses[1]) / 8)


def test_metric_averages() -> None:
    averages = MetricAverages()
    for value in (1.0, 2.0, 6.0):
        averages.add({"loss": torch.tensor(value), "confusion": torch.tensor([[3.0, 1.0], [0.0, 0.0]])})
    numbers = averages.read()
    assert numbers["loss"] == 3
    assert numbers["confusion/recall_0"] == 0.75
    assert numbers["confusion/precision_0"] == 1
    assert numbers["confusion/precision_1"] == 0
    assert "confusion/recall_1" not in numbers


def test_recent_averages_begin_where_they_were_read() -> None:
    """Also after a checkpoint in between; the averages of the phase stay whole."""
    one_by_one, component, resumed = make(), make(), make()
    losses = []
    for _ in range(5):
        one_by_one.update()
        losses.append(one_by_one.read_recent()["loss"])
    for _ in range(2):
        component.update()
    recent = component.read_recent()
    assert (recent["loss"], recent["lr"]) == (pytest.approx(sum(losses[:2]) / 2), component.lr)
    for _ in range(3):
        component.update()
    resumed.load_state_dict(component.state_dict())
    for each in (component, resumed):
        assert each.read_recent()["loss"] == pytest.approx(sum(losses[2:]) / 3)
        assert each.finish_phase()["loss"] == pytest.approx(sum(losses) / 5)
    # The next phase begins anew.
    component.update()
    assert component.read_recent()["loss"] == component.finish_phase()["loss"]


def test_weight_decay_is_for_weights_of_layers_only() -> None:
    denoiser = Denoiser(DenoiserConfig(InnerModelConfig(3, 2, 16, (1,), (8,), (1,), 4), 0.5, 0.3))
    rew_end_model = RewEndModel(RewEndModelConfig(8, 3, 8, 8, (1,), (8,), (0,), 4))
    for module in (denoiser, rew_end_model):
        decayed, others = [{id(p) for p in group["params"]} for group in decay_groups(module, 0.01)]
        for name, parameter in module.named_parameters():
            is_weight = (
                "weight" in name and "act_emb" not in name and "norm.norm" not in name and "norm_out" not in name
            )
            assert (id(parameter) in decayed) == is_weight, name
            assert (id(parameter) in others) != is_weight, name


@pytest.mark.parametrize("decays", ["layers", "all"])
def test_weight_decay_without_gradients(decays: str) -> None:
    """Where nothing else moves them, decayed parameters shrink by 1 - lr · weight_decay in a step."""
    module = nn.Sequential(nn.Linear(2, 3), nn.GroupNorm(1, 3))
    nn.init.normal_(module[0].bias)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    optimizer = OptimizerConfig(lr=0.1, weight_decay=0.5, decays=decays).make(module)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in module.named_parameters():
        shrinks = decays == "all" or name == "0.weight"
        torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if shrinks else 1.0))


def test_unknown_decays() -> None:
    with pytest.raises(BadSetting, match="decays=norms is unknown: use layers or all"):
        OptimizerConfig(lr=0.1, weight_decay=0.5, decays="norms")


def test_hooks_are_called_once_a_phase_and_once_an_update() -> None:
    phases, seen, batches = [], [], list(torch.randn(8, 8, 1))
    hooks = {"before_phase": lambda: phases.append(component.num_updates), "after_update": seen.append}
    component = make(batches, hooks, grad_acc_steps=2)
    for _ in range(2):
        component.update()
    component.finish_phase()
    weight, bias = component.module.layer.weight.detach().clone(), component.module.layer.bias.detach().clone()
    component.update()
    assert phases == [0, 2]
    # One call an update, with every batch that it accumulated, and what was predicted before the step.
    assert [len(update) for update in seen] == [2, 2, 2]
    for (batch, prediction), given in zip(seen[2], batches[4:6], strict=True):
        assert batch is given
        assert torch.allclose(prediction, given @ weight.T + bias)
