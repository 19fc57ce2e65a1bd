"""What the actor and the critic learn from: imagined states, and the losses on them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.dreamer.config import LossConfig
from models.dreamer.latents import Gumbel, draw_gumbel, entropy, sample_index
from models.dreamer.returns import ReturnRange, imagined_returns, replayed_returns
from models.dreamer.rssm import Rssm, State
from models.dreamer.two_hot import TwoHot


@dataclass(frozen=True)
class Trajectories:
    """States `features` (n, h + 1, num_features), from the start on, and the actions sampled at them, (n, h + 1).

    The features have the precision of the recurrent states, so that several heads can read them without casting them.
    """

    features: Tensor
    act: Tensor


ImagineStep = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]


@torch.no_grad()
def imagine(
    rssm: Rssm,
    actor: nn.Module,
    start: State,
    horizon: int,
    gumbel: Gumbel = draw_gumbel,
    step: ImagineStep | None = None,
) -> Trajectories:
    """Let the actor act for `horizon` steps from n states; an action is sampled at the last state, too.

    `step`: `imagine_step` of the two networks, possibly compiled. Nothing in this loop waits for the device.
    """
    step = step or partial(imagine_step, rssm, actor)
    deter, stoch, features = start.deter, start.stoch, [start.features_in(start.deter.dtype)]
    shape, device = torch.Size((len(deter), rssm.num_actions)), deter.device
    acts = [_act(actor, features[0], gumbel(shape, device))]
    for _ in range(horizon):
        noise, act_noise = gumbel(stoch.shape, device), gumbel(shape, device)
        deter, stoch, seen, act = step(deter, stoch, acts[-1], noise, act_noise)
        features.append(seen)
        acts.append(act)
    return Trajectories(torch.stack(features, dim=1), torch.stack(acts, dim=1))


def imagine_step(
    rssm: Rssm, actor: nn.Module, deter: Tensor, stoch: Tensor, act: Tensor, noise: Tensor, act_noise: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The next states of n (`deter`, `stoch`) under actions, their features, and the actions sampled at them.

    `noise` (n, variables, classes) and `act_noise` (n, num_actions) are the Gumbel noise of the samples.
    """
    state = rssm.imagine_with(State(deter, stoch), act, noise)
    features = state.features_in(state.deter.dtype)
    return state.deter, state.stoch, features, _act(actor, features, act_noise)


def _act(actor: nn.Module, features: Tensor, noise: Tensor) -> Tensor:
    return sample_index(actor(features).log_softmax(dim=-1), noise)


@dataclass(frozen=True)
class Predictions:
    """What the heads say of n imagined trajectories, (n, h + 1) each; logits have one more dimension.

    Only `policy_logits` and `value_logits` have gradients. `continues` is the probability of going on, times γ.
    """

    rew: Tensor
    continues: Tensor
    act: Tensor
    policy_logits: Tensor
    value_logits: Tensor
    slow_value: Tensor


@dataclass(frozen=True)
class BehaviourLosses:
    """Losses of policy and value (n, h), and the λ-returns (n, h), values (n, h + 1) and entropies (n, h)."""

    policy: Tensor
    value: Tensor
    returns: Tensor
    values: Tensor
    entropy: Tensor


def behaviour_losses(
    predicted: Predictions, two_hot: TwoHot, return_range: ReturnRange, config: LossConfig
) -> BehaviourLosses:
    """REINFORCE with normalised advantages, and a critic that predicts λ-returns (Hafner et al. 2023, eqs. 6 and 7).

    The range of returns is updated before it is used.
    """
    values = two_hot.mean(predicted.value_logits).detach()
    returns = imagined_returns(predicted.rew, values, predicted.continues, config.lambda_)
    return_range.update(returns, config.return_rate)
    weights = predicted.continues.cumprod(dim=1)[:, :-1]
    advantage = (returns - values[:, :-1]) / return_range.scale(config.return_limit)
    log_probs = predicted.policy_logits[:, :-1].log_softmax(dim=-1)
    log_prob_act = log_probs.gather(-1, predicted.act[:, :-1, None]).squeeze(-1)
    spread = entropy(log_probs)
    policy = -weights * (log_prob_act * advantage + config.entropy_scale * spread)
    value = weights * _value_loss(
        predicted.value_logits[:, :-1], returns, predicted.slow_value[:, :-1], two_hot, config
    )
    return BehaviourLosses(policy, value, returns, values, spread)


def replay_value_loss(
    rew: Tensor,
    is_last: Tensor,
    is_terminal: Tensor,
    bootstrap: Tensor,
    value_logits: Tensor,
    slow_value: Tensor,
    two_hot: TwoHot,
    config: LossConfig,
) -> Tensor:
    """The critic's loss (b, t - 1) on replayed rows (b, t); `bootstrap` (b, t) are imagined returns from each row."""
    returns = replayed_returns(rew, is_last, is_terminal, bootstrap, config.discount, config.lambda_)
    loss = _value_loss(value_logits[:, :-1], returns, slow_value[:, :-1], two_hot, config)
    return (~is_last[:, :-1]).float() * loss


def continue_loss(logits: Tensor, is_terminal: Tensor, discount: float) -> Tensor:
    """Cross-entropy (…) of the probability of going on, whose target is γ, or 0 at the end of an episode."""
    return F.binary_cross_entropy_with_logits(logits, discount * (~is_terminal).float(), reduction="none")


def _value_loss(logits: Tensor, returns: Tensor, slow_value: Tensor, two_hot: TwoHot, config: LossConfig) -> Tensor:
    return two_hot.loss(logits, returns) + config.slow_regulariser * two_hot.loss(logits, slow_value)
