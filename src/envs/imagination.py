"""What the networks imagine: the next frame, the same in full size, the reward, and the end."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from data import Batch, Imagined, to_bytes, to_unit_range
from envs.config import WorldModelEnvConfig
from envs.imagined_state import Prediction, State
from envs.start_pool import origins
from errors import UserError
from models.diffusion import Denoiser, DiffusionSampler
from models.rew_end_model import RewEndModel
from ranges import BadSetting


class Imagination:
    """The networks of an imagined environment, as functions of its state; they restart nothing.

    Without a reward and termination model, rewards are zero and nothing ends. With an upsampler, every frame is also
    drawn in full size.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        rew_end_model: RewEndModel | None,
        upsampler: Denoiser | None,
        config: WorldModelEnvConfig,
    ) -> None:
        """Raises UserError if a sampler does not fit its denoiser."""
        self.denoiser = denoiser
        self.rew_end_model = rew_end_model
        self.upsampler = upsampler
        self.sampler = _make_sampler(denoiser, config, "diffusion_sampler")
        self.full_sampler = None
        if upsampler is not None:
            self.full_sampler = _make_sampler(upsampler, config, "diffusion_sampler_upsampling")

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def sample_with(self, **changes: Any) -> None:
        """Change settings of the sampler."""
        self.sampler = DiffusionSampler(self.denoiser, replace(self.sampler.config, **changes))

    def equals(self, other: "Imagination") -> bool:
        """Whether both have the same networks of frames, and sample them in the same way."""
        return (
            self.denoiser is other.denoiser
            and self.upsampler is other.upsampler
            and self.sampler.config == other.sampler.config
        )

    def parts(self) -> Mapping[str, tuple[Any, str]]:
        """The parts to time in a profile: for each label, an object and the name of its method."""
        parts = {"denoiser": (self.sampler, "sample")}
        if self.rew_end_model is not None:
            parts["reward and end model"] = (self.rew_end_model, "predict")
        if self.full_sampler is not None:
            parts["upsampler"] = (self.full_sampler, "sample")
        return parts

    def predict(self, now: State, act: Tensor) -> Prediction:
        """The next state under actions (b), or vectors (b, num_actions)."""
        acts = torch.cat((now.act[:, :-1], act[:, None].to(now.act.dtype)), dim=1)
        frame, trajectory = self.sampler.sample(now.obs, acts)
        final_obs = to_bytes(frame)
        next_obs = to_unit_range(final_obs)[:, None]
        full_obs, final_full_obs = self._enlarge(now.full_obs, next_obs[:, 0])
        rew, end, memory = self._reward(now, act, next_obs)
        shifted = State(torch.cat((now.obs[:, 1:], next_obs), dim=1), acts.roll(-1, 1), *memory, full_obs, now.origin)
        return Prediction(shifted, final_obs, rew, end, final_full_obs, trajectory)

    def imagine(self, batch: Batch, act: Tensor) -> Imagined:
        """Imagine t steps under given actions, without ending or restarting.

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

    def burn_in(self, batch: Batch) -> tuple[Tensor, ...]:
        """The columns of `State` after watching the batch."""
        obs, act, full_obs = batch.frames, batch.act, self._first_full(batch)
        origin = origins(batch).to(obs.device)
        if self.rew_end_model is None:
            empty = obs.new_zeros(len(obs), 0)
            return obs, act, empty, empty, full_obs, origin
        hx, cx = self.rew_end_model.watch(batch.frames, batch.act)
        return obs, act, hx[0], cx[0], full_obs, origin

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
