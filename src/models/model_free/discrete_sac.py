"""The losses of discrete SAC (Christodoulou 2019): two critics, a policy, and a temperature that holds its entropy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.averages import follow
from models.metrics import Metrics
from models.model_free.transitions import Transitions
from models.model_free.trunk import Network


class Temperature(nn.Module):
    """The weight of the entropy, a trained number above zero."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(start)))


@dataclass(frozen=True)
class Outputs:
    """What the networks say of a batch, float32 (b, num_actions) each: critics and targets have one entry each."""

    logits: Tensor
    values: tuple[Tensor, Tensor]
    next_logits: Tensor
    next_targets: tuple[Tensor, Tensor]


class DiscreteSacLearner(nn.Module):
    """Actor, two critics with target networks, and temperature; `forward` is the sum of their losses."""

    def __init__(
        self,
        actor: Network,
        critics: tuple[Network, Network],
        targets: tuple[Network, Network],
        temperature: Temperature,
        target_entropy: float,
    ) -> None:
        """`target_entropy` is in nats."""
        super().__init__()
        self.actor, self.temperature = actor, temperature
        self.critics, self.targets = nn.ModuleList(critics), nn.ModuleList(targets)
        self.target_entropy = target_entropy

    def forward(self, batch: Transitions) -> tuple[Tensor, Metrics]:
        with torch.no_grad():
            next_logits = self.actor(batch.next_frames)
            first_target, second_target = (each(batch.next_frames) for each in self.targets)
        first, second = (each(batch.frames) for each in self.critics)
        outputs = Outputs(self.actor(batch.frames), (first, second), next_logits, (first_target, second_target))
        losses = discrete_sac_losses(outputs, self.temperature.log, batch, self.target_entropy)
        log_probs = outputs.logits.log_softmax(dim=-1)
        metrics = {
            **losses,
            "entropy": -(log_probs.exp() * log_probs).sum(dim=-1).mean(),
            "temperature": self.temperature.log.exp(),
            "value_mean": torch.minimum(first, second).mean(),
        }
        loss = sum(losses.values())
        return loss, {"loss": loss.detach(), **{name: number.detach() for name, number in metrics.items()}}

    def follow(self, rate: float) -> None:
        """Move the target networks a share `rate` of the way to the critics."""
        follow(self.targets.parameters(), self.critics.parameters(), rate)


def discrete_sac_losses(
    outputs: Outputs, log_temperature: Tensor, batch: Transitions, target_entropy: float
) -> Mapping[str, Tensor]:
    """The losses of critics, policy and temperature (Christodoulou 2019, eq. 4, 10 to 12), means over the batch.

    Expectations over actions are exact. No loss has gradients for the networks that another one trains.
    """
    temperature = log_temperature.detach().exp()
    next_log_probs = outputs.next_logits.log_softmax(dim=-1)
    soft_values = torch.minimum(*outputs.next_targets) - temperature * next_log_probs
    returns = batch.rew + batch.discount * (next_log_probs.exp() * soft_values).sum(dim=-1)
    chosen = [each.gather(-1, batch.act[:, None]).squeeze(-1) for each in outputs.values]
    log_probs = outputs.logits.log_softmax(dim=-1)
    worse = torch.minimum(*outputs.values).detach()
    negative_entropy = (log_probs.exp() * log_probs).sum(dim=-1).detach()
    return {
        "loss_critics": sum((each - returns.detach()).pow(2).mean() for each in chosen),
        "loss_actor": (log_probs.exp() * (temperature * log_probs - worse)).sum(dim=-1).mean(),
        "loss_temperature": -(log_temperature * (negative_entropy + target_entropy)).mean(),
    }
