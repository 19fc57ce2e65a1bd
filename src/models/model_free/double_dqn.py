"""The loss of Double DQN: the online network chooses the next action, the target network values it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.averages import follow
from models.metrics import Metrics
from models.model_free.transitions import Transitions
from models.model_free.trunk import Network


class DoubleDqnLearner(nn.Module):
    """Action values, and their target network; `forward` is the loss."""

    def __init__(self, online: Network, target: Network) -> None:
        super().__init__()
        self.online, self.target = online, target

    def forward(self, batch: Transitions) -> tuple[Tensor, Metrics]:
        with torch.no_grad():
            given = NextValues(self.online(batch.next_frames), self.target(batch.next_frames))
        return double_dqn_loss(self.online(batch.frames), given, batch)

    def follow(self, rate: float) -> None:
        """Move the target network a share `rate` of the way to the online network."""
        follow(self.target.parameters(), self.online.parameters(), rate)


@dataclass(frozen=True)
class NextValues:
    """Values of the next actions, float32 (b, num_actions): of the online and the target network."""

    online: Tensor
    target: Tensor


def double_dqn_loss(values: Tensor, following: NextValues, batch: Transitions) -> tuple[Tensor, Metrics]:
    """The mean Huber loss of action values (b, num_actions) (van Hasselt et al. 2016, eq. 4; Mnih et al. 2015)."""
    best = following.online.argmax(dim=-1, keepdim=True)
    returns = batch.rew + batch.discount * following.target.gather(-1, best).squeeze(-1)
    chosen = values.gather(-1, batch.act[:, None]).squeeze(-1)
    loss = F.smooth_l1_loss(chosen, returns)
    metrics = {"loss": loss, "value_mean": chosen.mean(), "return_mean": returns.mean()}
    return loss, {name: number.detach() for name, number in metrics.items()}
