"""The imagined environment: the recurrent model under given actions, its states decoded to frames."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from algorithms.dreamer.agent import DreamerAgent
from algorithms.dreamer.config import ImaginedSection
from data import Batch, Imagined, Segments, Start, Step
from envs.start_pool import StartPool, choose, origins
from models.dreamer import State, TwoHot

NUM_BATCHES = 2
"""Batches of starts that wait: one to reset, and one for the environments that end in a step."""


class DreamerWorld:
    """A vector environment in the latents; it starts by observing `num_context_steps` real frames.

    Rewards are expected values, and exactly zero where that is most likely. An episode ends with the predicted
    probability, and is truncated at the horizon.
    """

    shows_rewards = True
    tells_continue = True

    def __init__(
        self,
        agent: DreamerAgent,
        config: ImaginedSection,
        discount: float,
        num_envs: int,
        draw_starts: Callable[[int], Batch],
        gather_starts: Callable[[Segments], Batch] | None = None,
    ) -> None:
        """`draw_starts(b)` returns b segments of real steps, `gather_starts` given segments, to restore a state.

        `discount` is the part of the predicted probability of going on that is a discount.
        """
        self.agent = agent
        self.num_context_steps = config.num_context_steps
        self.horizon = config.horizon
        self.num_envs = num_envs
        self.num_actions = agent.rssm.num_actions
        self._discount = discount
        self._two_hot = TwoHot(agent.rssm.config.bins).to(agent.rssm.gates.weight.device)
        self._starts = StartPool(draw_starts, gather_starts, self._watch, num_envs, NUM_BATCHES)
        self._now: State | None = None
        self._age: Tensor | None = None

    def parts(self) -> Mapping[str, tuple[Any, str]]:
        return {"recurrent model": (self.agent.rssm, "imagine_step"), "decoder": (self.agent.decoder, "forward")}

    def prepare(self, num_steps: int) -> None:
        """Draw the starts that the next step may need."""
        self._starts.fill(1)

    @torch.no_grad()
    def reset(self) -> Start:
        """Start every environment from real experience."""
        self._starts.fill(NUM_BATCHES)
        everywhere = torch.ones(self.num_envs, dtype=torch.bool, device=self.agent.rssm.gates.weight.device)
        deter, stoch, frames, origin = self._starts.take(everywhere)
        self._now, self._age = State(deter, stoch), torch.zeros_like(everywhere, dtype=torch.int64)
        return Start(frames[:, -1], frames[:, :-1], origin=origin)

    @torch.no_grad()
    def step(self, act: Tensor) -> Step:
        """Imagine the result of actions int64 (b)."""
        return self._advance(*self._predict(self._now, act))

    def can_join(self, other: object) -> bool:
        """Whether the same networks imagine both."""
        return isinstance(other, DreamerWorld) and (other.agent, other._discount) == (self.agent, self._discount)

    @torch.no_grad()
    def step_joined(self, worlds: Sequence["DreamerWorld"], act: Tensor) -> list[Step]:
        """Step several worlds as one batch; each restarts by itself. `act` int64 (b), in their order."""
        deter, stoch = zip(*[(world._now.deter, world._now.stoch) for world in worlds], strict=True)
        state, *rest = self._predict(State(torch.cat(deter), torch.cat(stoch)), act)
        sizes = [world.num_envs for world in worlds]
        parts = zip(*[column.split(sizes) for column in (state.deter, state.stoch, *rest)], strict=True)
        return [
            world._advance(State(deter, stoch), *rest)
            for world, (deter, stoch, *rest) in zip(worlds, parts, strict=True)
        ]

    def _predict(self, now: State, act: Tensor) -> tuple[State, Tensor, Tensor, Tensor, Tensor]:
        """The next state, its frame, and `_outcome`, before anything restarts."""
        state = self.agent.rssm.imagine_step(now, act)
        return state, self._draw(state), *self._outcome(state)

    def _advance(self, state: State, final_obs: Tensor, rew: Tensor, end: Tensor, going_on: Tensor) -> Step:
        """Become what was predicted, and restart the environments that ended."""
        age = self._age + 1
        trunc = age >= self.horizon
        dead = end | trunc
        deter, stoch, frames, origin = self._starts.take(dead)
        self._now = State(choose(dead, deter, state.deter.to(deter.dtype)), choose(dead, stoch, state.stoch))
        self._age = torch.where(dead, 0, age)
        obs = choose(dead, frames[:, -1], final_obs)
        return Step(obs, rew, end, trunc, final_obs, frames[:, :-1], origin=origin, going_on=going_on)

    @torch.no_grad()
    def imagine(self, batch: Batch, act: Tensor) -> Imagined:
        """Imagine t steps under given actions, without ending or restarting, and without changing the environment.

        `batch` holds the real frames and actions to start from; `act` int64 (b, t - 1) are the actions taken at the
        imagined frames.
        """
        state, steps = self._observe(batch), []
        for taken in torch.cat((batch.act[:, -1:], act), dim=1).unbind(1):
            state = self.agent.rssm.imagine_step(state, taken)
            steps.append((self._draw(state), *self._outcome(state)[:2]))
        return Imagined(*[torch.stack(column, dim=1) for column in zip(*steps, strict=True)])

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Tensor:
        """The frames of a batch, uint8 (b, t, c, h, w), decoded from the states after them."""
        return self._draw(self._follow(batch))

    def state_dict(self) -> dict[str, Any]:
        now = None if self._now is None else vars(self._now)
        return {"starts": self._starts.state_dict(), "now": now, "age": self._age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self.agent.rssm.gates.weight.device
        self._starts.load_state_dict(state["starts"], device)
        self._now = self._age = None
        if state["now"] is not None:
            self._now = State(**{name: value.to(device) for name, value in state["now"].items()})
            self._age = state["age"].to(device)

    def _draw(self, state: State) -> Tensor:
        """The frames of states, uint8 (…, c, h, w)."""
        return self.agent.decoder(state.deter, state.stoch).mul(255).round().byte()

    def _outcome(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """The expected rewards, sampled ends, bool, and probabilities of going on, of arriving in states, (b) each."""
        features = state.features
        logits = self.agent.reward(features)
        is_zero = self._two_hot.bins[logits.argmax(dim=-1)] == 0
        going_on = getattr(self.agent, "continue")(features).squeeze(-1).sigmoid() / self._discount
        ends = torch.rand_like(going_on) > going_on
        return torch.where(is_zero, 0, self._two_hot.mean(logits)), ends, going_on.clamp(max=1)

    def _watch(self, batch: Batch) -> tuple[Tensor, ...]:
        """The columns of starts: the state after the frames, the frames, and where they come from."""
        state = self._observe(batch)
        return state.deter, state.stoch, batch.obs, origins(batch).to(batch.obs.device)

    def _observe(self, batch: Batch) -> State:
        """The state after the last of real frames (b, n, …)."""
        states = self._follow(batch)
        return State(states.deter[:, -1], states.stoch[:, -1])

    def _follow(self, batch: Batch) -> State:
        """The states after real frames (b, n, …); an episode begins after padding."""
        rssm, (b, n) = self.agent.rssm, batch.act.shape[:2]
        before = torch.cat((batch.mask_padding.new_zeros(b, 1), batch.mask_padding[:, :-1]), dim=1)
        acts = torch.cat((torch.zeros_like(batch.act[:, :1]), batch.act[:, : n - 1]), dim=1)
        return rssm.observe(rssm.initial(b), self.agent.encoder(batch.obs), acts, ~before).state
