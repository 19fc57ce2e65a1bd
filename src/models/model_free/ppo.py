"""The network of PPO, and its loss: the clipped objective, a clipped value loss, and an entropy bonus."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from models.metrics import Metrics
from models.model_free.trunk import FrameShape, Trunk, TrunkConfig, in_float32, init_orthogonal
from ranges import Above, Weight

ACTOR_GAIN, CRITIC_GAIN = 0.01, 1.0


@dataclass(frozen=True)
class PpoLossConfig:
    """How far the ratio of probabilities, and a value, may move from the policy that acted; weights of the terms."""

    clip: Annotated[float, Above(0, 1)]
    weight_value_loss: Weight
    weight_entropy_loss: Weight


@dataclass(frozen=True)
class Minibatch:
    """b steps of a rollout.

    `frames` uint8 (b, num_frames, c, h, w), `act` int64 (b). `log_prob` and `value` float32 (b): of the policy that
    acted. `advantage` and `returns` float32 (b).
    """

    frames: Tensor
    act: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    returns: Tensor


class PpoNetwork(nn.Module):
    """A policy and a value with a common trunk; `forward` is their loss."""

    def __init__(
        self, config: TrunkConfig, frame: FrameShape, num_actions: int, loss_config: PpoLossConfig | None = None
    ) -> None:
        """`loss_config` is used in training only."""
        super().__init__()
        self.loss_config = loss_config
        self.trunk = Trunk(config, frame)
        self.actor = init_orthogonal(nn.Linear(config.features, num_actions), ACTOR_GAIN)
        self.critic = init_orthogonal(nn.Linear(config.features, 1), CRITIC_GAIN)

    @property
    def network_to_compile(self) -> nn.Module:
        """The part that takes most of the time."""
        return self.trunk.encoder

    def predict(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits float32 (b, num_actions) and values float32 (b)."""
        logits, value = in_float32(self.trunk(frames), self.actor, self.critic)
        return logits, value.squeeze(-1)

    def forward(self, batch: Minibatch) -> tuple[Tensor, Metrics]:
        logits, value = self.predict(batch.frames)
        return ppo_loss(logits, value, batch, self.loss_config)


def ppo_loss(logits: Tensor, value: Tensor, batch: Minibatch, config: PpoLossConfig) -> tuple[Tensor, Metrics]:
    """The loss of logits (b, num_actions) and values (b), means over the batch (Schulman et al. 2017, eq. 7 and 9).

    Advantages are normalised within the batch. A value's loss is the larger one of those with and without limiting its
    distance from the value of the policy that acted.
    """
    clip = config.clip
    log_probs = logits.log_softmax(dim=-1)
    log_ratio = log_probs.gather(-1, batch.act[:, None]).squeeze(-1) - batch.log_prob
    ratio = log_ratio.exp()
    advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
    loss_actions = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
    limited = batch.value + (value - batch.value).clamp(-clip, clip)
    loss_values = 0.5 * torch.maximum((value - batch.returns) ** 2, (limited - batch.returns) ** 2).mean()
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1).mean()
    loss = loss_actions + config.weight_value_loss * loss_values - config.weight_entropy_loss * entropy
    metrics = {
        "loss_total": loss,
        "loss_actions": loss_actions,
        "loss_values": loss_values,
        "entropy": entropy,
        "value_mean": value.mean(),
        "return_mean": batch.returns.mean(),
        # Of the policy that acted to this one (Schulman 2020, estimator k3).
        "kl": (ratio - 1 - log_ratio).mean(),
        "clipped_share": ((ratio - 1).abs() > clip).float().mean(),
    }
    return loss, {name: number.detach() for name, number in metrics.items()}
