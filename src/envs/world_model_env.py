"""The imagined environment: diffusion models for frames, a recurrent one for rewards and ends."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from data import Batch, Start, Step, to_bytes, to_unit_range
from envs.config import WorldModelEnvConfig
from errors import UserError
from models.diffusion import Denoiser, DiffusionSampler
from models.losses import sample_categorical
from models.rew_end_model import RewEndModel


@dataclass(frozen=True)
class _Starts:
    """Starts of imagination: n real frames in [-1, 1], their actions, and the memory after n - 1 transitions.

    `full_obs` are the last frames in full size that an upsampler looks at. Where there is no reward and termination
    model, or no upsampler, their tensors are empty but for the batch.
    """

    obs: Tensor
    act: Tensor
    hx: Tensor
    cx: Tensor
    full_obs: Tensor


class WorldModelEnv:
    """A vector environment that exists only in networks, and from outside looks like any other.

    Without a reward and termination model nothing is rewarded and nothing ends before the horizon; with an upsampler
    every frame is also drawn in full size. Nothing in `step` depends on the data's values: environments that ended are
    replaced under a mask, in order, from starts made ready by `prepare`. So the host never waits for the device.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        rew_end_model: RewEndModel | None,
        draw_starts: Callable[[int], Batch],
        config: WorldModelEnvConfig,
        num_envs: int,
        upsampler: Denoiser | None = None,
    ) -> None:
        """`draw_starts(b)` returns segments of n steps of real experience, on the networks' device."""
        self.denoiser = denoiser
        self.rew_end_model = rew_end_model
        self.upsampler = upsampler
        self.sampler = DiffusionSampler(denoiser, config.diffusion_sampler)
        self.full_sampler = None
        if upsampler is not None:
            self.full_sampler = DiffusionSampler(upsampler, config.diffusion_sampler_upsampling)
        self.draw_starts = draw_starts
        self.horizon = config.horizon
        self.num_envs = num_envs
        self.num_actions = denoiser.config.inner_model.num_actions
        self._num_batches = config.num_batches_to_preload
        self._pool: _Starts | None = None
        self._used: Tensor | None = None
        self._now: _Starts | None = None
        self._age: Tensor | None = None

    def prepare(self, num_steps: int) -> None:
        """Have enough starts ready for that many steps, whatever happens in them."""
        if self._pool is None or int(self._used) + num_steps * self.num_envs > len(self._pool.obs):
            self._refill()

    def check_rollout(self, num_steps: int) -> None:
        """Raise UserError when the starts made ready at once are too few for rollouts of that many steps."""
        if num_steps + 1 > self._num_batches:
            raise UserError(
                f"world_model_env.num_batches_to_preload={self._num_batches} is too few for rollouts of {num_steps} "
                f"steps, in which every environment may end at every step: at least {num_steps + 1} are needed."
            )

    def forget_starts(self) -> None:
        """Draw new starts before the next rollout: the experience or the networks have changed."""
        self._pool = None

    @torch.no_grad()
    def reset(self) -> Start:
        """Start everywhere from real experience."""
        if self._pool is None or int(self._used) + self.num_envs > len(self._pool.obs):
            self._refill()
        everywhere = torch.ones(self.num_envs, dtype=torch.bool, device=self._used.device)
        fresh = self._next_starts(everywhere)
        self._now, self._age = fresh, torch.zeros_like(everywhere, dtype=torch.int64)
        return Start(to_bytes(fresh.obs[:, -1]), fresh.obs[:, :-1], self._last_full(fresh))

    @torch.no_grad()
    def step(self, act: Tensor) -> Step:
        """Imagine the answer to actions (b), or multi-hot (b, num_actions).

        `history` of the result is in [-1, 1], as padding may be in it.
        """
        now = self._now
        acts = torch.cat((now.act[:, :-1], act[:, None].to(now.act.dtype)), dim=1)
        frame, trajectory = self.sampler.sample(now.obs, acts)
        final_obs = to_bytes(frame)
        next_obs = to_unit_range(final_obs)[:, None]
        full_obs, final_full_obs = self._enlarge(now.full_obs, next_obs[:, 0])
        rew, end, memory = self._reward(now, act, next_obs)
        age = self._age + 1
        trunc = age >= self.horizon
        dead = end | trunc

        fresh = self._next_starts(dead)
        shifted = _Starts(torch.cat((now.obs[:, 1:], next_obs), dim=1), acts.roll(-1, 1), *memory, full_obs)
        kept = zip(vars(fresh).values(), vars(shifted).values(), strict=True)
        self._now = _Starts(*[_where(dead, restarted, going_on) for restarted, going_on in kept])
        self._age = torch.where(dead, 0, age)
        return Step(
            to_bytes(self._now.obs[:, -1]),
            rew,
            end,
            trunc,
            final_obs,
            fresh.obs[:, :-1],
            trajectory,
            self._last_full(self._now),
            final_full_obs,
        )

    def _reward(self, now: _Starts, act: Tensor, next_obs: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Reward, end, and the memory behind them."""
        if self.rew_end_model is None:
            nothing = torch.zeros(self.num_envs, device=act.device)
            return nothing, nothing.bool(), (now.hx, now.cx)
        logits_rew, logits_end, (hx, cx) = self.rew_end_model.predict(
            now.obs[:, -1:], act[:, None], next_obs, (now.hx[None], now.cx[None])
        )
        rew = sample_categorical(logits_rew[:, 0]).float() - 1
        return rew, sample_categorical(logits_end[:, 0]).bool(), (hx[0], cx[0])

    def _enlarge(self, full_obs: Tensor, next_obs: Tensor) -> tuple[Tensor, Tensor | None]:
        """The full-size frames that the next one will follow, and that of `next_obs` (b, c, h, w) as bytes."""
        if self.upsampler is None:
            return full_obs, None
        history = torch.cat((full_obs, self.upsampler.enlarge(next_obs)[:, None]), dim=1)
        frame, _ = self.full_sampler.sample(history, None)
        final_full_obs = to_bytes(frame)
        return torch.cat((full_obs[:, 1:], to_unit_range(final_full_obs)[:, None]), dim=1), final_full_obs

    def _last_full(self, starts: _Starts) -> Tensor | None:
        return None if self.upsampler is None else to_bytes(starts.full_obs[:, -1])

    def state_dict(self) -> dict[str, Any]:
        tensors = {"used": self._used, "age": self._age}
        for name, starts in (("pool", self._pool), ("now", self._now)):
            tensors[name] = None if starts is None else dict(vars(starts))
        return tensors

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = next(self.denoiser.parameters()).device
        self._used, self._age = [None if state[key] is None else state[key].to(device) for key in ("used", "age")]
        self._pool, self._now = [
            None if state[key] is None else _Starts(**{name: value.to(device) for name, value in state[key].items()})
            for key in ("pool", "now")
        ]

    @torch.no_grad()
    def _refill(self) -> None:
        parts = [self._burn_in(self.draw_starts(self.num_envs)) for _ in range(self._num_batches)]
        columns = zip(*[vars(part).values() for part in parts], strict=True)
        self._pool = _Starts(*[torch.cat(column) for column in columns])
        self._used = torch.zeros((), dtype=torch.int64, device=self._pool.obs.device)

    def _burn_in(self, batch: Batch) -> _Starts:
        obs, act = batch.frames, batch.act
        full_obs = self._first_full(batch, obs)
        if self.rew_end_model is None:
            empty = obs.new_zeros(len(obs), 0)
            return _Starts(obs, act, empty, empty, full_obs)
        memory = obs.new_zeros(1, len(obs), self.rew_end_model.config.lstm_dim)
        hx, cx = memory, memory
        # Transition by transition, as in `step`: the network sees one shape only, and compiles once.
        for this, following in itertools.pairwise(range(obs.size(1))):
            at, behind = obs[:, this : this + 1], obs[:, following : following + 1]
            *_, (hx, cx) = self.rew_end_model.predict(at, act[:, this : this + 1], behind, (hx, cx))
        return _Starts(obs, act, hx[0], cx[0], full_obs)

    def _first_full(self, batch: Batch, obs: Tensor) -> Tensor:
        """The last frames in full size; where nobody knows them, the small ones enlarged."""
        if self.upsampler is None:
            return obs.new_zeros(len(obs), 0)
        n = self.upsampler.num_steps_conditioning
        if batch.full_obs is not None:
            return batch.full_frames[:, -n:]
        return self.upsampler.enlarge(obs[:, -n:].flatten(0, 1)).clamp(-1, 1).unflatten(0, (len(obs), n))

    def _next_starts(self, mask: Tensor) -> _Starts:
        """The next unused start for each masked environment, in order; anything for the others."""
        places = (self._used + mask.cumsum(0) - 1).clamp(0, len(self._pool.obs) - 1)
        self._used = self._used + mask.sum()
        return _Starts(*[values.index_select(0, places) for values in vars(self._pool).values()])


@torch.no_grad()
def imagine(sampler: DiffusionSampler, obs: Tensor, act: Tensor) -> Tensor:
    """Imagine on under given actions, from real frames, without ends or restarts.

    `obs` uint8 (b, n, c, h, w), `act` int64 (b, n - 1 + t) or multi-hot (b, n - 1 + t, num_actions): those taken at
    `obs` and at the t - 1 imagined frames that follow. Returns the t imagined frames, uint8 (b, t, c, h, w).
    """
    n, frames = obs.size(1), list(to_unit_range(obs).unbind(1))
    for step in range(act.size(1) - n + 1):
        frame, _ = sampler.sample(torch.stack(frames[-n:], dim=1), act[:, step : step + n])
        frames.append(to_unit_range(to_bytes(frame)))
    return to_bytes(torch.stack(frames[n:], dim=1))


def _where(mask: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.where(mask.view(-1, *[1] * (first.ndim - 1)), first, second)
