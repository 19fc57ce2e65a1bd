"""The imagined environment: diffusion models of frames, and a recurrent model of rewards and ends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from data import Batch, Imagined, Segments, Start, Step, to_bytes, to_unit_range
from envs.config import WorldModelEnvConfig
from envs.imagined_state import Prediction, State
from envs.start_pool import StartPool, choose, origins
from errors import UserError
from models.diffusion import Denoiser, DiffusionSampler
from models.rew_end_model import RewEndModel
from ranges import BadSetting


class WorldModelEnv:
    """A vector environment whose frames, rewards and ends are predicted by networks.

    Without a reward and termination model, rewards are zero and episodes end only at the horizon; with an upsampler,
    every frame is also drawn in full size. Control flow in `step` does not depend on values of tensors: a mask replaces
    environments that ended, in order, by prepared starts. So the host never waits for the device.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        rew_end_model: RewEndModel | None,
        draw_starts: Callable[[int], Batch],
        config: WorldModelEnvConfig,
        num_envs: int,
        upsampler: Denoiser | None = None,
        gather_starts: Callable[[Segments], Batch] | None = None,
    ) -> None:
        """`draw_starts(b)` returns b segments of n real steps, on the networks' device.

        `gather_starts` returns given segments; it is needed to restore a state.
        """
        self.denoiser = denoiser
        self.rew_end_model = rew_end_model
        self.upsampler = upsampler
        self.sampler = _make_sampler(denoiser, config, "diffusion_sampler")
        self.full_sampler = None
        if upsampler is not None:
            self.full_sampler = _make_sampler(upsampler, config, "diffusion_sampler_upsampling")
        self.draw_starts = draw_starts
        self.horizon = config.horizon
        self.num_envs = num_envs
        self.num_actions = denoiser.config.inner_model.num_actions
        self._num_batches = config.num_batches_to_preload
        self._num_steps = 1
        # `reset` takes a batch before the steps that were prepared, or before one step.
        room = max(2, self._num_batches)
        self._starts = StartPool(draw_starts, gather_starts, self._burn_in, num_envs, room)
        self._now: State | None = None
        self._age: Tensor | None = None

    @property
    def num_context_steps(self) -> int:
        return self.denoiser.num_steps_conditioning

    @property
    def num_steps_denoising(self) -> int:
        return self.sampler.config.num_steps_denoising

    @num_steps_denoising.setter
    def num_steps_denoising(self, steps: int) -> None:
        self._sample_with(num_steps_denoising=steps)

    @property
    def most_steps_denoising(self) -> int:
        return self.sampler.most_steps

    @property
    def eta(self) -> float | None:
        return getattr(self.sampler.config, "eta", None)

    @eta.setter
    def eta(self, eta: float) -> None:
        self._sample_with(eta=eta)

    @property
    def shows_rewards(self) -> bool:
        return self.rew_end_model is not None

    def parts(self) -> Mapping[str, tuple[Any, str]]:
        """The parts to time in a profile: for each label, an object and the name of its method."""
        parts = {"denoiser": (self.sampler, "sample")}
        if self.rew_end_model is not None:
            parts["reward and end model"] = (self.rew_end_model, "predict")
        if self.full_sampler is not None:
            parts["upsampler"] = (self.full_sampler, "sample")
        return parts

    def prepare(self, num_steps: int) -> None:
        """Draw enough starts for `num_steps` steps, even if every environment ends at every step.

        The host waits for the device here, once, to read how many starts were used.
        """
        if num_steps > 1:
            self.check_rollout(num_steps)
        self._num_steps = num_steps
        self._starts.fill(num_steps)

    def check_rollout(self, num_steps: int) -> None:
        """Raise UserError if `num_batches_to_preload` is too small for rollouts of `num_steps` steps."""
        if num_steps + 1 > self._num_batches:
            raise UserError(
                f"world_model_env.num_batches_to_preload={self._num_batches} is too few for rollouts of {num_steps} "
                f"steps, in which every environment may end at every step: at least {num_steps + 1} are needed."
            )

    def forget_starts(self) -> None:
        """Draw new starts before the next rollout, because the experience or the networks have changed."""
        self._starts.forget()

    @torch.no_grad()
    def reset(self) -> Start:
        """Start every environment from real experience."""
        self._starts.fill(self._num_steps + 1)
        device = next(self.denoiser.parameters()).device
        everywhere = torch.ones(self.num_envs, dtype=torch.bool, device=device)
        fresh = State(*self._starts.take(everywhere))
        self._now, self._age = fresh, torch.zeros_like(everywhere, dtype=torch.int64)
        return Start(to_bytes(fresh.obs[:, -1]), fresh.obs[:, :-1], self._last_full(fresh), fresh.origin)

    @torch.no_grad()
    def step(self, act: Tensor) -> Step:
        """Imagine the result of actions (b), or vectors (b, num_actions).

        `history` of the result is in [-1, 1], because it may contain padding.
        """
        return self._advance(self._predict(self._now, act))

    def can_join(self, other: object) -> bool:
        """Whether the same networks, sampled in the same way, imagine both."""
        return (
            isinstance(other, WorldModelEnv)
            and self.denoiser is other.denoiser
            and self.upsampler is other.upsampler
            and self.sampler.config == other.sampler.config
        )

    @torch.no_grad()
    def step_joined(self, worlds: Sequence["WorldModelEnv"], act: Tensor) -> list[Step]:
        """Step several worlds as one batch; each restarts by itself. `act` (b) or (b, num_actions), in their order."""
        columns = zip(*[vars(world._now).values() for world in worlds], strict=True)
        predicted = self._predict(State(*[torch.cat(column) for column in columns]), act)
        parts = predicted.split([world.num_envs for world in worlds])
        return [world._advance(part) for world, part in zip(worlds, parts, strict=True)]

    def _sample_with(self, **changes: Any) -> None:
        """Change settings of the sampler."""
        self.sampler = DiffusionSampler(self.denoiser, replace(self.sampler.config, **changes))

    def _predict(self, now: State, act: Tensor) -> Prediction:
        acts = torch.cat((now.act[:, :-1], act[:, None].to(now.act.dtype)), dim=1)
        frame, trajectory = self.sampler.sample(now.obs, acts)
        final_obs = to_bytes(frame)
        next_obs = to_unit_range(final_obs)[:, None]
        full_obs, final_full_obs = self._enlarge(now.full_obs, next_obs[:, 0])
        rew, end, memory = self._reward(now, act, next_obs)
        shifted = State(torch.cat((now.obs[:, 1:], next_obs), dim=1), acts.roll(-1, 1), *memory, full_obs, now.origin)
        return Prediction(shifted, final_obs, rew, end, final_full_obs, trajectory)

    def _advance(self, predicted: Prediction) -> Step:
        """Become what was predicted, and restart the environments that ended."""
        end, age = predicted.end, self._age + 1
        trunc = age >= self.horizon
        dead = end | trunc
        fresh = State(*self._starts.take(dead))
        pairs = zip(vars(fresh).values(), vars(predicted.state).values(), strict=True)
        self._now = State(*[choose(dead, restarted, continued) for restarted, continued in pairs])
        self._age = torch.where(dead, 0, age)
        return Step(
            to_bytes(self._now.obs[:, -1]),
            predicted.rew,
            end,
            trunc,
            predicted.obs,
            fresh.obs[:, :-1],
            predicted.trajectory,
            self._last_full(self._now),
            predicted.full_obs,
            fresh.origin,
        )

    @torch.no_grad()
    def imagine(self, batch: Batch, act: Tensor) -> Imagined:
        """Imagine t steps under given actions, without ending or restarting, and without changing the environment.

        `batch` holds n real frames and actions to start from; `act` (b, t - 1), or vectors (b, t - 1, num_actions),
        are the actions taken at the imagined frames.
        """
        frames, acts = list(to_unit_range(batch.obs).unbind(1)), torch.cat((batch.act, act), dim=1)
        n = len(frames)
        for step in range(acts.size(1) - n + 1):
            frame, _ = self.sampler.sample(torch.stack(frames[-n:], dim=1), acts[:, step : step + n])
            frames.append(to_unit_range(to_bytes(frame)))
        rew, end = self._outcomes(batch, frames, acts)
        return Imagined(to_bytes(torch.stack(frames[n:], dim=1)), rew, end)

    def state_dict(self) -> dict[str, Any]:
        now = None
        if self._now is not None:
            # Frames are bytes, or zero on padding, which no byte is converted to.
            is_real = self._now.obs.flatten(2).any(dim=-1)
            now = {**vars(self._now), "obs": to_bytes(self._now.obs), "is_real": is_real}
        return {"starts": self._starts.state_dict(), "now": now, "age": self._age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = next(self.denoiser.parameters()).device
        self._starts.load_state_dict(state["starts"], device)
        self._now = self._age = None
        if state["now"] is not None:
            now = {name: value.to(device) for name, value in state["now"].items()}
            is_real = now.pop("is_real")[..., None, None, None]
            self._now = State(**{**now, "obs": torch.where(is_real, to_unit_range(now["obs"]), 0)})
            self._age = state["age"].to(device)

    def _reward(self, now: State, act: Tensor, next_obs: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """The reward, the end, and the new memory of the reward model."""
        if self.rew_end_model is None:
            nothing = torch.zeros(len(act), device=act.device)
            return nothing, nothing.bool(), (now.hx, now.cx)
        rew, end, (hx, cx) = self.rew_end_model.sample(now.obs[:, -1:], act, next_obs, (now.hx[None], now.cx[None]))
        return rew, end, (hx[0], cx[0])

    def _outcomes(self, batch: Batch, frames: list[Tensor], acts: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Rewards and ends (b, t) of the imagined frames. `frames` begins with the batch's own frames."""
        if self.rew_end_model is None:
            return None, None
        n, memory, outcomes = batch.obs.size(1), self.rew_end_model.watch(batch.frames, batch.act), []
        for step in range(n, len(frames)):
            before, after = frames[step - 1][:, None], frames[step][:, None]
            rew, end, memory = self.rew_end_model.sample(before, acts[:, step - 1], after, memory)
            outcomes.append((rew, end))
        rews, ends = zip(*outcomes, strict=True)
        return torch.stack(rews, dim=1), torch.stack(ends, dim=1)

    def _enlarge(self, full_obs: Tensor, next_obs: Tensor) -> tuple[Tensor, Tensor | None]:
        """The full-size frames for conditioning the next step, and `next_obs` (b, c, h, w) in full size, uint8."""
        if self.upsampler is None:
            return full_obs, None
        history = torch.cat((full_obs, self.upsampler.enlarge(next_obs)[:, None]), dim=1)
        frame, _ = self.full_sampler.sample(history, None)
        final_full_obs = to_bytes(frame)
        return torch.cat((full_obs[:, 1:], to_unit_range(final_full_obs)[:, None]), dim=1), final_full_obs

    def _last_full(self, state: State) -> Tensor | None:
        return None if self.upsampler is None else to_bytes(state.full_obs[:, -1])

    def _burn_in(self, batch: Batch) -> tuple[Tensor, ...]:
        """The columns of `State` after watching the batch."""
        obs, act, full_obs = batch.frames, batch.act, self._first_full(batch)
        origin = origins(batch).to(obs.device)
        if self.rew_end_model is None:
            empty = obs.new_zeros(len(obs), 0)
            return obs, act, empty, empty, full_obs, origin
        hx, cx = self.rew_end_model.watch(batch.frames, batch.act)
        return obs, act, hx[0], cx[0], full_obs, origin

    def _first_full(self, batch: Batch) -> Tensor:
        """The last frames in full size; if they are not in the batch, the small ones are enlarged."""
        obs = batch.frames
        if self.upsampler is None:
            return obs.new_zeros(len(obs), 0)
        n = self.upsampler.num_steps_conditioning
        if batch.full_obs is not None:
            return batch.full_frames[:, -n:]
        return self.upsampler.enlarge(obs[:, -n:].flatten(0, 1)).clamp(-1, 1).unflatten(0, (len(obs), n))


def _make_sampler(denoiser: Denoiser, config: WorldModelEnvConfig, name: str) -> DiffusionSampler:
    """The sampler of that name; raises UserError if it does not fit the denoiser."""
    try:
        return DiffusionSampler(denoiser, getattr(config, name))
    except BadSetting as error:
        raise UserError(f"world_model_env.{name}.{error}") from None
