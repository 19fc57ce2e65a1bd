"""The recurrent model of rewards and terminations."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import Batch, to_unit_range
from models.blocks import (
    ActionEmbedding,
    Downsample,
    ImageSize,
    LstmState,
    ResBlocks,
    conv3x3,
    height_width,
    init_lstm,
)
from models.losses import masked_mean, sample_categorical
from models.metrics import Metrics
from models.sizes import check_image, check_unet
from ranges import Depth, ImageChannels, Levels, Switch, Whole, Width

NUM_REWARD_CLASSES, NUM_END_CLASSES = 3, 2


@dataclass(frozen=True)
class RewEndModelConfig:
    """Sizes of the network: `depths` (blocks), `channels` (width) and `attn_depths` (0 or 1) have one entry per level.

    `img_size` is the side of a square frame, or (height, width). `num_actions` is the number of actions, or of entries
    of an action vector; 0 for data without actions.
    """

    lstm_dim: Width
    img_channels: ImageChannels
    img_size: ImageSize
    cond_channels: Width
    depths: Levels[Depth]
    channels: Levels[Width]
    attn_depths: Levels[Switch]
    num_actions: Whole | None = None

    def __post_init__(self) -> None:
        check_unet(self.depths, self.channels, self.attn_depths, has_skips=False)
        check_image(self.img_size, 1, "any network")


class RewEndModel(nn.Module):
    """Predicts the sign of the reward and whether the episode ends, from two frames and the action between them."""

    def __init__(self, config: RewEndModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = RewEndEncoder(config)
        self.act_emb = ActionEmbedding(config.num_actions, config.cond_channels)
        height, width = height_width(config.img_size)
        for _ in config.channels[1:]:
            height, width = (height + 1) // 2, (width + 1) // 2
        self.lstm = nn.LSTM(config.channels[-1] * height * width, config.lstm_dim, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(config.lstm_dim, config.lstm_dim),
            nn.SiLU(),
            nn.Linear(config.lstm_dim, NUM_REWARD_CLASSES + NUM_END_CLASSES, bias=False),
        )
        init_lstm(self.lstm)

    @property
    def network_to_compile(self) -> nn.Module:
        """The part that takes most of the time."""
        return self.encoder

    def predict(
        self, obs: Tensor, act: Tensor, next_obs: Tensor, hx_cx: LstmState | None = None
    ) -> tuple[Tensor, Tensor, LstmState]:
        """Logits for t consecutive transitions, and the memory after them.

        `obs` and `next_obs` (b, t, c, h, w) in [-1, 1], `act` int64 (b, t), or vectors (b, t, num_actions), `hx_cx`
        (1, b, lstm_dim) each.
        Returns `logits_rew` (b, t, 3) for rewards -1, 0, 1, `logits_end` (b, t, 2), and the new `hx_cx`.
        """
        b, t = act.shape[:2]
        pairs = torch.cat((obs, next_obs), dim=2).flatten(0, 1)
        features = self.encoder(pairs, self.act_emb(act).flatten(0, 1))
        # The recurrence is cheap: in float32, its errors do not grow over long episodes.
        with torch.autocast(features.device.type, enabled=False):
            hidden, hx_cx = self.lstm(features.float().unflatten(0, (b, t)), hx_cx)
            logits = self.head(hidden)
        return *logits.split((NUM_REWARD_CLASSES, NUM_END_CLASSES), dim=-1), hx_cx

    def watch(self, obs: Tensor, act: Tensor) -> LstmState:
        """The memory (1, b, lstm_dim) after t frames (b, t, c, h, w) and the actions at them, of which the last one is
        not used: it leads to a later frame."""
        memory = obs.new_zeros(1, len(obs), self.config.lstm_dim)
        hx_cx = memory, memory
        # One transition at a time, as in imagination: the network gets only one input shape, and compiles once.
        for this, following in itertools.pairwise(range(obs.size(1))):
            before, after = obs[:, this : this + 1], obs[:, following : following + 1]
            *_, hx_cx = self.predict(before, act[:, this : this + 1], after, hx_cx)
        return hx_cx

    def sample(self, obs: Tensor, act: Tensor, next_obs: Tensor, hx_cx: LstmState) -> tuple[Tensor, Tensor, LstmState]:
        """A reward and an end (b) of one transition between frames (b, 1, c, h, w), and the new memory."""
        logits_rew, logits_end, hx_cx = self.predict(obs, act[:, None], next_obs, hx_cx)
        rew = sample_categorical(logits_rew[:, 0]).float() - 1
        return rew, sample_categorical(logits_end[:, 0]).bool(), hx_cx

    def forward(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Cross-entropy of both heads. Where an episode is over, its final observation is used as the next frame."""
        frames, mask = batch.frames, batch.mask_padding[:, :-1]
        over = (batch.end | batch.trunc)[:, :-1].bool()[..., None, None, None]
        next_obs = torch.where(over, to_unit_range(batch.final_obs)[:, None], frames[:, 1:])
        logits_rew, logits_end, _ = self.predict(frames[:, :-1], batch.act[:, :-1], next_obs)
        target_rew, target_end = batch.rew[:, :-1].sign().long() + 1, batch.end[:, :-1].long()
        loss_rew = masked_mean(_cross_entropy(logits_rew, target_rew), mask)
        loss_end = masked_mean(_cross_entropy(logits_end, target_end), mask)
        loss = loss_rew + loss_end
        metrics = {
            "loss_rew": loss_rew.detach(),
            "loss_end": loss_end.detach(),
            "loss_total": loss.detach(),
            "confusion_rew": _confusion(logits_rew, target_rew, mask),
            "confusion_end": _confusion(logits_end, target_end, mask),
        }
        return loss, metrics


class RewEndEncoder(nn.Module):
    """The downward half of a U-Net, and two blocks with attention: (b, 2·c, h, w) to flat features (b, f)."""

    def __init__(self, config: RewEndModelConfig) -> None:
        super().__init__()
        channels, cond_channels = config.channels, config.cond_channels
        self.conv_in = conv3x3(2 * config.img_channels, channels[0])
        blocks = []
        for level, (depth, width, attn) in enumerate(zip(config.depths, channels, config.attn_depths, strict=True)):
            above = channels[max(0, level - 1)]
            blocks.append(ResBlocks([above] + [width] * (depth - 1), [width] * depth, cond_channels, bool(attn)))
        blocks.append(ResBlocks([channels[-1]] * 2, [channels[-1]] * 2, cond_channels, attn=True))
        self.blocks = nn.ModuleList(blocks)
        downsamples = [Downsample(width) for width in channels[:-1]]
        self.downsamples = nn.ModuleList([nn.Identity(), *downsamples, nn.Identity()])

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        x = self.conv_in(x)
        for blocks, downsample in zip(self.blocks, self.downsamples, strict=True):
            x = blocks(downsample(x), cond)[-1]
        return x.flatten(1)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.movedim(-1, 1), target, reduction="none")


@torch.no_grad()
def _confusion(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Counts of (true class, predicted class) over unmasked steps, float32 (classes, classes)."""
    classes = logits.size(-1)
    truth = F.one_hot(target, classes).float() * mask[..., None]
    predicted = F.one_hot(logits.argmax(-1), classes).float()
    return truth.flatten(0, 1).T @ predicted.flatten(0, 1)
