"""The recurrent state space model: how the state follows from actions, and what images tell about it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.dreamer.config import NetworkConfig
from models.dreamer.latents import Gumbel, draw_gumbel, mixed_log_probs, sample_index, straight_through
from models.dreamer.layers import BlockLinear, RMSNorm, linear

ObserveStep = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class State:
    """Recurrent states `deter` (…, deter), and latents `stoch` (…, variables, classes), one-hot in float32."""

    deter: Tensor
    stoch: Tensor

    @property
    def features(self) -> Tensor:
        """The input of the heads (…, num_features), float32."""
        return self.features_in(torch.float32)

    def features_in(self, precision: torch.dtype) -> Tensor:
        """The same in another precision. That of `deter` loses nothing: latents are zeros and ones."""
        return torch.cat((self.deter.to(precision), self.stoch.flatten(-2).to(precision)), dim=-1)

    def detach(self) -> "State":
        return State(self.deter.detach(), self.stoch.detach())

    def reset(self, is_first: Tensor) -> "State":
        """The zero state where `is_first` bool (b) is set."""
        kept = ~is_first
        return State(self.deter * kept[:, None], self.stoch * kept[:, None, None])


@dataclass(frozen=True)
class Observed:
    """States (b, t, …) after frames, with the log-probabilities (b, t, variables, classes) of their latents.

    `posterior` knows the frame, `prior` does not. `index` int64 (b, t, variables) are the sampled classes.
    """

    state: State
    index: Tensor
    posterior: Tensor
    prior: Tensor


class Rssm(nn.Module):
    """A recurrent network of block-linear layers, and distributions of the latent with and without the frame."""

    def __init__(self, config: NetworkConfig, num_actions: int, num_tokens: int) -> None:
        super().__init__()
        self.config = config
        self.num_actions = num_actions
        deter, hidden, latent = config.deter, config.hidden, config.stoch * config.classes
        for name, num_inputs in (("deter", deter), ("stoch", latent), ("action", num_actions)):
            self.add_module(f"in_{name}", linear(num_inputs, hidden))
            self.add_module(f"in_{name}_norm", RMSNorm(hidden))
        self.hidden = BlockLinear(deter + config.blocks * 3 * hidden, deter, config.blocks)
        self.hidden_norm = RMSNorm(deter)
        self.gates = BlockLinear(deter, 3 * deter, config.blocks)
        self.posterior0 = linear(deter + num_tokens, hidden)
        self.posterior0_norm = RMSNorm(hidden)
        self.posterior_logits = linear(hidden, latent)
        self.prior0, self.prior0_norm = linear(deter, hidden), RMSNorm(hidden)
        self.prior1, self.prior1_norm = linear(hidden, hidden), RMSNorm(hidden)
        self.prior_logits = linear(hidden, latent)

    def initial(self, batch_size: int) -> State:
        """The state before any frame: zeros."""
        config, weight = self.config, self.gates.weight
        shape = (batch_size, config.stoch, config.classes)
        return State(weight.new_zeros(batch_size, config.deter), weight.new_zeros(shape))

    def embed_action(self, act: Tensor, is_first: Tensor | None = None) -> Tensor:
        """Features (…, hidden) of actions int64 (…); where `is_first` is set, of no action, the zero vector."""
        vectors = F.one_hot(act, self.num_actions).float()
        return self.embed_vector(vectors if is_first is None else vectors * ~is_first[..., None])

    def embed_vector(self, act: Tensor) -> Tensor:
        """Features (…, hidden) of one-hot actions (…, num_actions)."""
        return F.silu(self.in_action_norm(self.in_action(act)))

    def advance(self, state: State, act: Tensor) -> Tensor:
        """The next recurrent state (b, deter), for states (b, …) and features `act` (b, hidden) of the actions."""
        blocks = self.config.blocks
        from_deter = F.silu(self.in_deter_norm(self.in_deter(state.deter)))
        from_stoch = F.silu(self.in_stoch_norm(self.in_stoch(state.stoch.flatten(1))))
        shared = torch.cat((from_deter, from_stoch, act.to(from_deter.dtype)), dim=-1)
        own = state.deter.to(shared.dtype).unflatten(-1, (blocks, -1))  # b g deter/g
        inputs = torch.cat((own, shared[:, None].expand(-1, blocks, -1)), dim=-1).flatten(1)
        hidden = F.silu(self.hidden_norm(self.hidden(inputs)))
        # Each block has its own slices of the three gates.
        gates = self.gates(hidden).unflatten(-1, (blocks, 3, -1)).unbind(2)
        reset, candidate, update = [each.flatten(1) for each in gates]
        update = torch.sigmoid(update - 1)
        return update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * state.deter.to(update.dtype)

    def posterior(self, deter: Tensor, tokens: Tensor) -> Tensor:
        """Logits (…, variables, classes) of the latent, given the frame's tokens (…, num_tokens)."""
        return self._posterior_logits(deter, self._read(tokens))

    def prior(self, deter: Tensor) -> Tensor:
        """Logits (…, variables, classes) of the latent, without the frame."""
        x = F.silu(self.prior0_norm(self.prior0(deter)))
        x = F.silu(self.prior1_norm(self.prior1(x)))
        return self._as_latent(self.prior_logits(x))

    def observe(
        self,
        state: State,
        tokens: Tensor,
        act: Tensor,
        is_first: Tensor,
        gumbel: Gumbel = draw_gumbel,
        step: ObserveStep | None = None,
    ) -> Observed:
        """Follow t frames from a state (b, …). `act` int64 (b, t) are the actions before each frame.

        `tokens` (b, t, num_tokens). Where `is_first` bool (b, t) is set, the state and action before are forgotten.
        `step`: `observe_step`, possibly compiled.
        """
        step = step or self.observe_step
        acts, read = self.embed_action(act, is_first), self._read(tokens)
        deter, stoch, rows = state.deter, state.stoch, []
        for index in range(act.size(1)):
            noise = gumbel(stoch.shape, stoch.device)
            rows.append(step(deter, stoch, acts[:, index], is_first[:, index], read[:, index], noise))
            deter, stoch, *_ = rows[-1]
        deters, stochs, indices, posteriors = [torch.stack(column, dim=1) for column in zip(*rows, strict=True)]
        prior = mixed_log_probs(self.prior(deters), self.config.unimix)
        return Observed(State(deters, stochs), indices, posteriors, prior)

    def observe_step(
        self, deter: Tensor, stoch: Tensor, act: Tensor, is_first: Tensor, read: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Follow one frame, with the features of the action before it, and the frame's share in the posterior (b, …).

        Returns the state (`deter`, `stoch`), the sampled classes, and the log-probabilities of the posterior.
        """
        deter = self.advance(State(deter, stoch).reset(is_first), act)
        posterior = mixed_log_probs(self._posterior_logits(deter, read), self.config.unimix)
        index = sample_index(posterior.detach(), noise)
        return deter, straight_through(posterior, index), index, posterior

    def imagine_step(self, state: State, act: Tensor, gumbel: Gumbel = draw_gumbel) -> State:
        """The next state (b, …) after actions int64 (b), without gradient through the sample."""
        return self.imagine_with(state, act, gumbel(state.stoch.shape, state.stoch.device))

    def imagine_with(self, state: State, act: Tensor, noise: Tensor) -> State:
        """The next state with given Gumbel noise (b, variables, classes)."""
        deter = self.advance(state, self.embed_action(act))
        index = sample_index(mixed_log_probs(self.prior(deter), self.config.unimix), noise)
        return State(deter, self.one_hot(index))

    def one_hot(self, index: Tensor) -> Tensor:
        """Latents (…, variables, classes), float32, of classes (…, variables)."""
        return F.one_hot(index.long(), self.config.classes).float()

    def _read(self, tokens: Tensor) -> Tensor:
        """The share of the tokens in the posterior's first layer, which can be computed for all frames at once."""
        return F.linear(tokens, self.posterior0.weight[:, self.config.deter :], self.posterior0.bias)

    def _posterior_logits(self, deter: Tensor, read: Tensor) -> Tensor:
        x = F.linear(deter, self.posterior0.weight[:, : self.config.deter]) + read
        return self._as_latent(self.posterior_logits(F.silu(self.posterior0_norm(x))))

    def _as_latent(self, logits: Tensor) -> Tensor:
        return logits.unflatten(-1, (self.config.stoch, self.config.classes))
