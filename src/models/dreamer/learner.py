"""DreamerV3's loss: one pass over replayed rows and imagined states trains all of its networks."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from models.averages import follow
from models.dreamer.behaviour import (
    BehaviourLosses,
    Predictions,
    behaviour_losses,
    continue_loss,
    imagine,
    imagine_step,
    replay_value_loss,
)
from models.dreamer.config import LossConfig
from models.dreamer.latents import Gumbel, draw_gumbel, entropy, kl_divergence, kl_losses
from models.dreamer.part import Part
from models.dreamer.returns import ReturnRange
from models.dreamer.rssm import Observed, State
from models.dreamer.two_hot import TwoHot
from models.metrics import Metrics


@dataclass(frozen=True)
class Rows:
    """Windows of t + 1 consecutive rows: an observation, the reward that came with it, and the action taken at it.

    `obs` uint8 (b, t + 1, c, h, w), `act` int64 (b, t + 1), `rew` float32 (b, t + 1), flags bool (b, t + 1). The first
    row is context: of it, only the stored state, `deter` (b, deter) and `index` (b, variables), and `act` are used.
    """

    obs: Tensor
    act: Tensor
    rew: Tensor
    is_first: Tensor
    is_last: Tensor
    is_terminal: Tensor
    deter: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.obs)


class Learner(nn.Module):
    """The networks that are trained together, and their loss.

    `agent` has them by name: encoder, rssm, decoder, reward, continue, actor, critic, slow_critic and return_range.
    """

    def __init__(self, agent: nn.Module, config: LossConfig, num_bins: int, gumbel: Gumbel = draw_gumbel) -> None:
        """`gumbel` draws the noise of all samples, in the order of their use."""
        super().__init__()
        self.networks = nn.ModuleDict(dict(agent.named_children()))
        self.config = config
        self.two_hot = TwoHot(num_bins)
        self.gumbel = gumbel
        rssm = self.networks["rssm"]
        self.encode, self.decode = Part(self.networks["encoder"].forward), Part(self.networks["decoder"].forward)
        self.observe_step = Part(rssm.observe_step)
        self.imagine_step = Part(partial(imagine_step, rssm, self.networks["actor"]))

    @property
    def networks_to_compile(self) -> list[nn.Module]:
        """The encoder and the decoder on all rows, a step of following rows, and a step of imagination."""
        return [self.encode, self.decode, self.observe_step, self.imagine_step]

    def forward(self, rows: Rows) -> tuple[Tensor, Metrics, Tensor, Tensor]:
        """The loss, metrics, and the states of the rows after the first: `deter` (b, t, deter), `index` (b, t, …)."""
        observed = self.observe(rows)
        losses = self.world_losses(rows, observed)
        behaviour, replay_value = self.behaviour_losses(rows, observed)
        losses |= {"policy": behaviour.policy, "value": behaviour.value, "replay_value": replay_value}
        means = {name: values.mean() for name, values in losses.items()}
        scales = vars(self.config.scales)
        loss = sum(scales[name] * mean for name, mean in means.items())
        metrics = {"loss_total": loss, **{f"loss_{name}": mean for name, mean in means.items()}}
        metrics |= self._metrics(observed, behaviour)
        detached = {name: value.detach() for name, value in metrics.items()}
        return loss, detached, observed.state.deter.detach(), observed.index

    def observe(self, rows: Rows) -> Observed:
        """Follow the rows after the first, from its stored state."""
        rssm = self.networks["rssm"]
        start = State(rows.deter, rssm.one_hot(rows.index))
        tokens = self.encode(rows.obs[:, 1:])
        return rssm.observe(start, tokens, rows.act[:, :-1], rows.is_first[:, 1:], self.gumbel, self.observe_step)

    def world_losses(self, rows: Rows, observed: Observed) -> dict[str, Tensor]:
        """The losses (b, t) of each row of the world model."""
        state, config = observed.state, self.config
        features = state.features
        images = self.decode(state.deter, state.stoch)
        dynamics, representation = kl_losses(observed.posterior, observed.prior, config.free_nats)
        continue_logits = self.networks["continue"](features).squeeze(-1)
        return {
            "image": (images - rows.obs[:, 1:].float() / 255).square().sum(dim=(-3, -2, -1)),
            "reward": self.two_hot.loss(self.networks["reward"](features), rows.rew[:, 1:]),
            "continues": continue_loss(continue_logits, rows.is_terminal[:, 1:], config.discount),
            "dynamics": dynamics,
            "representation": representation,
        }

    def behaviour_losses(self, rows: Rows, observed: Observed) -> tuple[BehaviourLosses, Tensor]:
        """The losses in imagination from every row, and the critic's loss on the rows themselves (b, t - 1)."""
        networks, config, two_hot = self.networks, self.config, self.two_hot
        state, (b, t) = observed.state.detach(), observed.index.shape[:2]
        start = State(state.deter.flatten(0, 1), state.stoch.flatten(0, 1))
        rssm, actor = networks["rssm"], networks["actor"]
        imagined = imagine(rssm, actor, start, config.horizon, self.gumbel, self.imagine_step)
        features = imagined.features
        with torch.no_grad():
            rew = two_hot.mean(networks["reward"](features))
            continues = networks["continue"](features).squeeze(-1).sigmoid()
            slow_value = two_hot.mean(networks["slow_critic"](features))
        policy_logits, value_logits = networks["actor"](features), networks["critic"](features)
        predicted = Predictions(rew, continues, imagined.act, policy_logits, value_logits, slow_value)
        return_range: ReturnRange = networks["return_range"]
        losses = behaviour_losses(predicted, two_hot, return_range, config)
        # Here the gradient goes on into the states.
        replayed, bootstrap = observed.state.features, losses.returns[:, 0].unflatten(0, (b, t))
        with torch.no_grad():
            slow_value = two_hot.mean(networks["slow_critic"](replayed))
        flags = rows.is_last[:, 1:], rows.is_terminal[:, 1:]
        value_logits = networks["critic"](replayed)
        replay_value = replay_value_loss(rows.rew[:, 1:], *flags, bootstrap, value_logits, slow_value, two_hot, config)
        return losses, replay_value

    def follow_critic(self) -> None:
        """Move the slow critic towards the critic; called after every update."""
        follow(self.networks["slow_critic"].parameters(), self.networks["critic"].parameters(), self.config.slow_rate)

    def _metrics(self, observed: Observed, behaviour: BehaviourLosses) -> Metrics:
        return_range: ReturnRange = self.networks["return_range"]
        return {
            "kl": kl_divergence(observed.posterior, observed.prior).mean(),
            "policy_entropy": behaviour.entropy.mean(),
            "posterior_entropy": entropy(observed.posterior).sum(dim=-1).mean(),
            "prior_entropy": entropy(observed.prior).sum(dim=-1).mean(),
            "value_mean": behaviour.values.mean(),
            "return_mean": behaviour.returns.mean(),
            "return_low": return_range.low,
            "return_high": return_range.high,
        }
