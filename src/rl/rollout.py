"""Rollouts of the actor-critic in any vector environment, for training."""

from typing import Any

import torch
from torch import Tensor

from data import Step, to_bytes, to_unit_range
from models.actor_critic import ActorCritic, ActorCriticLossConfig, Rollout
from models.blocks import LstmState
from models.losses import sample_categorical
from models.metrics import Metrics
from rl.policy import Env
from rl.returns import lambda_returns


class Rollouts:
    """Consecutive rollouts: each continues from the end of the previous one, with the policy's memory."""

    def __init__(self, env: Env, policy: ActorCritic, config: ActorCriticLossConfig) -> None:
        self.env = env
        self.policy = policy
        self.config = config
        self._obs: Tensor | None = None
        self._hx_cx: LstmState | None = None

    @torch.no_grad()
    def collect(self) -> tuple[Rollout, Metrics]:
        """Act for `backup_every` steps; returns the rollout, with λ-returns, and metrics."""
        num_steps, policy = self.config.backup_every, self.policy
        self.env.prepare(num_steps)
        if self._obs is None:
            start = self.env.reset()
            self._obs, self._hx_cx = start.obs, self._watch(start.history, start.obs)
        obs, hx_cx, before = self._obs, self._hx_cx, self._hx_cx
        features, rows = policy.encode(obs), []
        for _ in range(num_steps):
            hx_cx = policy.remember(features, hx_cx)
            logits, value = policy.heads(hx_cx[0])
            act = sample_categorical(logits)
            step = self.env.step(act)
            features, fresh, final_value = self._look_ahead(step, hx_cx)
            rows.append((obs, act, value, final_value, step.rew, step.end, step.trunc, *_as_stored(step.history)))
            obs, hx_cx = step.obs, _where(step.dead, fresh, hx_cx)
        self._obs, self._hx_cx = obs, hx_cx
        _, last_value = policy.heads(policy.remember(features, hx_cx)[0])

        columns = [None if column[0] is None else torch.stack(column) for column in zip(*rows, strict=True)]
        observations, acts, values, final_values, rew, end, trunc, history, mask_padding = columns
        dead, next_values = end | trunc, torch.cat((values[1:], last_value[None]))
        val_bootstrap = torch.where(dead, final_values, next_values)
        returns = lambda_returns(rew, end, trunc, val_bootstrap, self.config.gamma, self.config.lambda_)
        rollout = Rollout(observations, acts, returns, before, dead, history, mask_padding)
        return rollout, {"reward_mean": rew.mean(), "end_rate": end.float().mean()}

    def state_dict(self) -> dict[str, Any]:
        return {"env": self.env.state_dict(), "obs": self._obs, "hx_cx": self._hx_cx}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.env.load_state_dict(state["env"])
        device = self.policy.critic_linear.weight.device
        if state["obs"] is not None:
            self._obs = state["obs"].to(device)
            self._hx_cx = tuple(memory.to(device) for memory in state["hx_cx"])

    def _look_ahead(self, step: Step, hx_cx: LstmState) -> tuple[Tensor, LstmState, Tensor]:
        """Features of the next frame, the memory for a new episode, and the value of the final observation.

        All frames are encoded in one call. If no game is over, the final observation is the next frame, and is encoded
        once.
        """
        history = [] if step.history is None else list(step.history.unbind(1))
        last = [] if step.final_obs is step.obs else [step.final_obs]
        frames = torch.cat([to_unit_range(frame) for frame in (step.obs, *last, *history)])
        features, *others = self.policy.encode(frames).split(len(step.obs))
        final_features, watched = (others[0], others[1:]) if last else (features, others)
        _, final_value = self.policy.heads(self.policy.remember(final_features, hx_cx)[0])
        return features, self._remember_all(watched, len(step.obs)), final_value

    def _watch(self, history: Tensor | None, obs: Tensor) -> LstmState:
        watched = [] if history is None else [self.policy.encode(frame) for frame in history.unbind(1)]
        return self._remember_all(watched, len(obs))

    def _remember_all(self, watched: list[Tensor], batch_size: int) -> LstmState:
        hx_cx = self.policy.initial_memory(batch_size)
        for features in watched:
            hx_cx = self.policy.remember(features, hx_cx)
        return hx_cx


def _where(mask: Tensor, first: LstmState, second: LstmState) -> LstmState:
    return tuple(torch.where(mask[:, None], *pair) for pair in zip(first, second, strict=True))


def _as_stored(history: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Frames (b, n, c, h, w) as uint8, and a mask (b, n) that is False on padding.

    Padding is exactly zero in [-1, 1]; no uint8 value is converted to zero.
    """
    if history is None:
        return None, None
    is_real = to_unit_range(history).flatten(2).any(dim=-1)
    return to_bytes(history), is_real
