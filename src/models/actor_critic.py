"""The policy and value network, and its loss on rollouts."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import to_unit_range
from models.blocks import (
    GroupNorm,
    ImageSize,
    LstmState,
    conv1x1,
    conv3x3,
    height_width,
    init_lstm,
    zero_init,
)
from models.metrics import Metrics
from models.sizes import check_image, check_levels, check_normalised
from ranges import Count, Fraction, ImageChannels, Levels, Switch, Weight, Whole, Width


@dataclass(frozen=True)
class ActorCriticConfig:
    """Sizes of the network: `channels` (width) and `down` (1: max-pooling, 0: none) have one entry per level.

    `img_size` is the side of a square frame, or (height, width).
    """

    lstm_dim: Width
    img_channels: ImageChannels
    img_size: ImageSize
    channels: Levels[Width]
    down: Levels[Switch]
    num_actions: Whole | None = None

    def __post_init__(self) -> None:
        check_levels(channels=self.channels, down=self.down)
        check_normalised(self.channels, (self.channels[0], *self.channels[:-1]))
        check_image(self.img_size, 2 ** sum(self.down), f"down={list(self.down)}")


@dataclass(frozen=True)
class ActorCriticLossConfig:
    """Rollout length, discount γ, λ, and the weights of value loss and entropy."""

    backup_every: Count = 15
    gamma: Fraction = 0.985
    lambda_: Fraction = 0.95
    weight_value_loss: Weight = 1.0
    weight_entropy_loss: Weight = 0.001


@dataclass(frozen=True)
class Rollout:
    """t steps in b environments, the input of the actor-critic's loss.

    `obs` uint8 (t, b, c, h, w), `act` int64 (t, b), `returns` float32 (t, b). `hx_cx` (b, lstm_dim) each: the memory
    before the first step. Where `dead` bool (t, b) is set, the episode ends after that step. The memory of the next
    episode then starts from zeros and is burnt in on `history` uint8 (t, b, n, c, h, w), the frames before the new
    episode; frames are mid-grey where `mask_padding` bool (t, b, n) is False. Without `history` it stays zero.
    """

    obs: Tensor
    act: Tensor
    returns: Tensor
    hx_cx: LstmState
    dead: Tensor
    history: Tensor | None = None
    mask_padding: Tensor | None = None


class ActorCritic(nn.Module):
    """A convolutional encoder, an LSTM, and linear heads for the policy and the value."""

    def __init__(self, config: ActorCriticConfig, loss_config: ActorCriticLossConfig | None = None) -> None:
        """`loss_config`: the weights of the loss, `ActorCriticLossConfig()` by default."""
        super().__init__()
        self.config = config
        self.loss_config = loss_config or ActorCriticLossConfig()
        self.encoder = ActorCriticEncoder(config)
        height, width = [side // 2 ** sum(config.down) for side in height_width(config.img_size)]
        self.lstm = nn.LSTMCell(config.channels[-1] * height * width, config.lstm_dim)
        self.critic_linear = zero_init(nn.Linear(config.lstm_dim, 1))
        self.actor_linear = zero_init(nn.Linear(config.lstm_dim, config.num_actions))
        init_lstm(self.lstm)

    @property
    def network_to_compile(self) -> nn.Module:
        """The part that takes most of the time."""
        return self.encoder

    def initial_memory(self, batch_size: int) -> LstmState:
        """The memory before any frame: zeros, (b, lstm_dim) each."""
        zeros = self.critic_linear.weight.new_zeros(batch_size, self.config.lstm_dim)
        return zeros, zeros.clone()

    def encode(self, obs: Tensor) -> Tensor:
        """Features (b, f), float32, of frames (b, c, h, w), uint8 or in [-1, 1]."""
        return self.encoder(to_unit_range(obs)).float()

    def remember(self, features: Tensor, hx_cx: LstmState) -> LstmState:
        """The memory after features (b, f); in float32, so that errors do not grow over long episodes."""
        with torch.autocast(features.device.type, enabled=False):
            return self.lstm(features, hx_cx)

    def burn_in(self, obs: Tensor) -> LstmState:
        """The memory after frames (b, n, c, h, w), starting from zeros."""
        b, n = obs.shape[:2]
        features = self.encode(obs.flatten(0, 1)).unflatten(0, (b, n))
        hx_cx = self.initial_memory(b)
        for seen in features.unbind(1):
            hx_cx = self.remember(seen, hx_cx)
        return hx_cx

    def heads(self, hx: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the policy (…, num_actions) and the value (…) of memories (…, lstm_dim)."""
        with torch.autocast(hx.device.type, enabled=False):
            return self.actor_linear(hx), self.critic_linear(hx).squeeze(-1)

    def predict(self, obs: Tensor, hx_cx: LstmState) -> tuple[Tensor, Tensor, LstmState]:
        """One step: logits (b, num_actions), values (b) and the new memory, for frames (b, c, h, w)."""
        hx_cx = self.remember(self.encode(obs), hx_cx)
        return *self.heads(hx_cx[0]), hx_cx

    def forward(self, rollout: Rollout) -> tuple[Tensor, Metrics]:
        """REINFORCE with a value baseline, value loss and entropy bonus; means over time and batch."""
        logits, values = self._replay(rollout)
        log_probs = logits.log_softmax(dim=-1)
        log_prob_act = log_probs.gather(-1, rollout.act[..., None]).squeeze(-1)
        advantage = (rollout.returns - values).detach()
        entropy = -(log_probs.exp() * log_probs).sum(dim=-1).mean()
        loss_actions = -(log_prob_act * advantage).mean()
        loss_values = (values - rollout.returns).pow(2).mean()
        weights = self.loss_config
        loss = loss_actions + weights.weight_value_loss * loss_values - weights.weight_entropy_loss * entropy
        metrics = {
            "loss_total": loss,
            "loss_actions": loss_actions,
            "loss_values": loss_values,
            "entropy": entropy,
            "value_mean": values.mean(),
            "return_mean": rollout.returns.mean(),
        }
        return loss, {name: value.detach() for name, value in metrics.items()}

    def _replay(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Recompute the rollout with gradient, encoding all frames at once: logits (t, b, a) and values (t, b)."""
        t, b = rollout.act.shape
        features = self.encode(rollout.obs.flatten(0, 1)).unflatten(0, (t, b))
        restarts = self._restarts(rollout)
        hx_cx, memories = rollout.hx_cx, []
        for step in range(t):
            if step > 0:
                over = rollout.dead[step - 1, :, None]
                hx_cx = tuple(
                    torch.where(over, fresh[step - 1], carried) for fresh, carried in zip(restarts, hx_cx, strict=True)
                )
            hx_cx = self.remember(features[step], hx_cx)
            memories.append(hx_cx[0])
        return self.heads(torch.stack(memories))

    def _restarts(self, rollout: Rollout) -> LstmState:
        """Memories (t - 1, b, lstm_dim) each, with gradient, for the episodes that begin after each step.

        Where no episode begins, they are arbitrary. Only the histories of new episodes are encoded, b at a time, so
        that shapes are static. Counting them is the only point in an update where the host waits for the device.
        """
        b, over = rollout.act.size(1), rollout.dead[:-1]
        places = over.flatten().nonzero()[:, 0] if rollout.history is not None else over.new_zeros(0)
        if len(places) == 0:
            return tuple(memory.expand(*over.shape, -1) for memory in self.initial_memory(b))
        places = F.pad(places, (0, -len(places) % b))
        history, mask = [column.flatten(0, 1)[places] for column in (rollout.history, rollout.mask_padding)]
        frames = to_unit_range(history) * mask[..., None, None, None]
        parts = [self.burn_in(some) for some in frames.split(b)]
        number = (over.flatten().cumsum(0) - 1).clamp(min=0)
        return tuple(torch.cat(part)[number].unflatten(0, over.shape) for part in zip(*parts, strict=True))


class ActorCriticEncoder(nn.Module):
    """A convolution, then per level a residual block and, if `down` is 1, 2×2 max-pooling: (b, c, h, w) to (b, f)."""

    def __init__(self, config: ActorCriticConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv3x3(config.img_channels, config.channels[0])]
        widths = (config.channels[0], *config.channels)
        for before, after, down in zip(widths, config.channels, config.down, strict=False):
            # No identity where nothing is pooled: indices of layers are part of the names in checkpoints.
            layers += [SmallResBlock(before, after), nn.MaxPool2d(2)] if down else [SmallResBlock(before, after)]
        self.encoder = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x).flatten(1)


class SmallResBlock(nn.Module):
    """Group normalisation, SiLU and a 3×3 convolution, with a skip connection."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.f = nn.Sequential(GroupNorm(in_channels), nn.SiLU(), conv3x3(in_channels, out_channels))
        self.skip_projection = conv1x1(in_channels, out_channels) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip_projection(x) + self.f(x)
