"""The imagined environment: a vector environment in which networks predict what happens."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from data import Batch, Imagined, Segments, Start, Step, to_bytes, to_unit_range
from envs.config import WorldModelEnvConfig
from envs.imagination import Imagination
from envs.imagined_state import Prediction, State
from envs.start_pool import StartPool, choose
from errors import UserError
from models.diffusion import Denoiser, DiffusionSampler
from models.rew_end_model import RewEndModel


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
        self._imagination = Imagination(denoiser, rew_end_model, upsampler, config)
        self.draw_starts = draw_starts
        self.horizon = config.horizon
        self.num_envs = num_envs
        self.num_actions = denoiser.config.inner_model.num_actions
        self._num_batches = config.num_batches_to_preload
        self._num_steps = 1
        # `reset` takes a batch before the steps that were prepared, or before one step.
        room = max(2, self._num_batches)
        self._starts = StartPool(draw_starts, gather_starts, self._imagination.burn_in, num_envs, room)
        self._now: State | None = None
        self._age: Tensor | None = None

    @property
    def denoiser(self) -> Denoiser:
        return self._imagination.denoiser

    @property
    def rew_end_model(self) -> RewEndModel | None:
        return self._imagination.rew_end_model

    @property
    def sampler(self) -> DiffusionSampler:
        return self._imagination.sampler

    @property
    def num_context_steps(self) -> int:
        return self.denoiser.num_steps_conditioning

    @property
    def num_steps_denoising(self) -> int:
        return self.sampler.config.num_steps_denoising

    @num_steps_denoising.setter
    def num_steps_denoising(self, steps: int) -> None:
        self._imagination.sample_with(num_steps_denoising=steps)

    @property
    def most_steps_denoising(self) -> int:
        return self.sampler.most_steps

    @property
    def eta(self) -> float | None:
        return getattr(self.sampler.config, "eta", None)

    @eta.setter
    def eta(self, eta: float) -> None:
        self._imagination.sample_with(eta=eta)

    @property
    def shows_rewards(self) -> bool:
        return self.rew_end_model is not None

    def parts(self) -> Mapping[str, tuple[Any, str]]:
        """The parts to time in a profile: for each label, an object and the name of its method."""
        return self._imagination.parts()

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
        everywhere = torch.ones(self.num_envs, dtype=torch.bool, device=self._imagination.device)
        fresh = State(*self._starts.take(everywhere))
        self._now, self._age = fresh, torch.zeros_like(everywhere, dtype=torch.int64)
        return Start(to_bytes(fresh.obs[:, -1]), fresh.obs[:, :-1], self._last_full(fresh), fresh.origin)

    @torch.no_grad()
    def step(self, act: Tensor) -> Step:
        """Imagine the result of actions (b), or vectors (b, num_actions).

        `history` of the result is in [-1, 1], because it may contain padding.
        """
        return self._advance(self._imagination.predict(self._now, act))

    def can_join(self, other: object) -> bool:
        """Whether the same networks, sampled in the same way, imagine both."""
        return isinstance(other, WorldModelEnv) and self._imagination.equals(other._imagination)

    @torch.no_grad()
    def step_joined(self, worlds: Sequence["WorldModelEnv"], act: Tensor) -> list[Step]:
        """Step several worlds as one batch; each restarts by itself. `act` (b) or (b, num_actions), in their order."""
        columns = zip(*[vars(world._now).values() for world in worlds], strict=True)
        predicted = self._imagination.predict(State(*[torch.cat(column) for column in columns]), act)
        parts = predicted.split([world.num_envs for world in worlds])
        return [world._advance(part) for world, part in zip(worlds, parts, strict=True)]

    @torch.no_grad()
    def imagine(self, batch: Batch, act: Tensor) -> Imagined:
        """Imagine steps under given actions as `Imagination.imagine`, without changing the environment."""
        return self._imagination.imagine(batch, act)

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

    def state_dict(self) -> dict[str, Any]:
        now = None
        if self._now is not None:
            # Frames are bytes, or zero on padding, which no byte is converted to.
            is_real = self._now.obs.flatten(2).any(dim=-1)
            now = {**vars(self._now), "obs": to_bytes(self._now.obs), "is_real": is_real}
        return {"starts": self._starts.state_dict(), "now": now, "age": self._age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self._imagination.device
        self._starts.load_state_dict(state["starts"], device)
        self._now = self._age = None
        if state["now"] is not None:
            now = {name: value.to(device) for name, value in state["now"].items()}
            is_real = now.pop("is_real")[..., None, None, None]
            self._now = State(**{**now, "obs": torch.where(is_real, to_unit_range(now["obs"]), 0)})
            self._age = state["age"].to(device)

    def _last_full(self, state: State) -> Tensor | None:
        return None if self._imagination.upsampler is None else to_bytes(state.full_obs[:, -1])
