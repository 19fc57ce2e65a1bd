"""Running a world along recorded actions, and comparing what it imagines with what was recorded."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from algorithms.base import World
from data import Batch, Imagined
from evaluation.world_metrics import frame_errors, moving_errors, moving_pixels, similarities
from evaluation.world_segments import Recorded, other_actions, select
from rl.policy import Critic, Rememberer
from run.device import autocast

Watch = Callable[[Tensor], np.ndarray | None]
ROWS_ON_CPU, ROWS_ON_GPU = 40, 640
"""Rollouts that are imagined at once."""


@dataclass(frozen=True)
class Predictions:
    """What one way of predicting gave in k samples of s segments of t steps; NaN at steps that were not recorded.

    `error`, `similarity` and `moving_error` float64 (k, s, t), the last one NaN where nothing moves. `rew`, the signs
    of rewards, and `end` float64 (k, s, t), or None without them. `value` float64 (1, s, t): the policy's value of the
    first sample's frames, or None.
    """

    error: np.ndarray
    similarity: np.ndarray
    moving_error: np.ndarray
    rew: np.ndarray | None = None
    end: np.ndarray | None = None
    value: np.ndarray | None = None

    def where(self, counts: np.ndarray) -> "Predictions":
        """NaN except where `counts` bool (s, t)."""
        arrays = {name: np.where(counts, values, np.nan) for name, values in vars(self).items() if values is not None}
        return replace(self, **arrays)


@dataclass(frozen=True)
class Measured:
    """A world, and what it is compared with.

    `shuffled`: the same world under the actions of other segments, of which one sample is drawn; None if all segments
    have the same actions. `copied`: the last real frame, repeated. `rew`, `end` and `returns` float64 (s, t) are the
    real ones, NaN where they are not known. `real_value` float64 (s, t): the policy's values of the real frames, or
    None. `frames` uint8 (s, t, c, h, w) are the model's first samples, in main memory. `seconds` is the time for
    imagining `num_imagined` frames.
    """

    recorded: Recorded
    model: Predictions
    shuffled: Predictions | None
    copied: Predictions
    rew: np.ndarray
    end: np.ndarray
    returns: np.ndarray
    real_value: np.ndarray | None
    frames: Tensor
    num_imagined: int
    seconds: float


def measure_world(
    world: World,
    recorded: Recorded,
    critic: Critic | None,
    num_samples: int,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
) -> Measured:
    """Imagine every segment `num_samples` times under its own actions, and once under the actions of another one.

    The critic only watches. Equal seeds give equal numbers on the same device.
    """
    torch.manual_seed(seed)
    others, has_others = other_actions(recorded.acts, recorded.mask, seed)
    count, counted = len(recorded.mask), recorded.mask.numpy()
    watch = partial(_values, critic, precision)
    rows_at_once = max(1, (ROWS_ON_GPU if device.type == "cuda" else ROWS_ON_CPU) // (num_samples + 1))
    chunks, real_values, frames, seconds = [], [], [], 0.0
    with torch.no_grad(), tqdm(total=count, desc="Imagining", unit="segment") as bar:
        for rows in torch.arange(count).split(rows_at_once):
            started, acts = time.monotonic(), recorded.acts[rows]
            act = torch.cat([*[acts] * num_samples, others[rows]]).to(device)
            with autocast(device, precision):
                imagined = _imagine(world, recorded, rows.repeat(num_samples + 1), act)
            frames.append(imagined.obs[: len(rows)].cpu())
            seconds += time.monotonic() - started
            real = recorded.batch.obs[rows].to(device)[:, recorded.num_context_steps - 1 :]
            own, other = slice(0, num_samples * len(rows)), slice(num_samples * len(rows), None)
            given = recorded.batch.between(0, recorded.num_context_steps)
            given = select(given, rows).to(device)
            copied = Imagined(real[:, :1].expand(-1, recorded.horizon, -1, -1, -1))
            chunks.append(
                (
                    _compare(_cut(imagined, own), real, partial(watch, given, act[: len(rows)])),
                    _compare(_cut(imagined, other), real, partial(watch, given, act[other])),
                    _compare(copied, real),
                )
            )
            real_values.append(watch(given, act[: len(rows)], real[:, 1:]))
            bar.update(len(rows))
    model, shuffled, copied = [_join(each).where(counted) for each in zip(*chunks, strict=True)]
    return Measured(
        recorded,
        model,
        shuffled.where(has_others.numpy()[:, None]) if has_others.any() else None,
        copied,
        np.where(counted, recorded.rew.sign().numpy(), np.nan),
        np.where(counted, recorded.end.numpy(), np.nan),
        np.where(counted, recorded.returns, np.nan),
        None if critic is None else np.where(counted, np.concatenate(real_values), np.nan),
        torch.cat(frames),
        count * (num_samples + 1) * recorded.horizon,
        seconds,
    )


def _imagine(world: World, recorded: Recorded, rows: Tensor, act: Tensor) -> Imagined:
    """From the context of these segments, under the actions `act` (len(rows), t, …) that lead to the frames."""
    context = select(recorded.batch.between(0, recorded.num_context_steps), rows).to(act.device)
    # The first of these actions is taken at the last real frame.
    context = replace(context, act=torch.cat((context.act[:, :-1], act[:, :1]), dim=1))
    return world.imagine(context, act[:, 1:])


def _cut(imagined: Imagined, rows: slice) -> Imagined:
    return Imagined(*[None if each is None else each[rows] for each in (imagined.obs, imagined.rew, imagined.end)])


def _compare(imagined: Imagined, real: Tensor, watch: Watch | None = None) -> Predictions:
    """Compare (k·r, t) steps, k samples of r segments, with real frames.

    `real` (r, 1 + t, c, h, w) begins with the last frame of the context. `watch(frames)` returns the policy's values.
    """
    moving, target = moving_pixels(real), real[:, 1:]
    obs = imagined.obs.unflatten(0, (-1, len(real)))
    target = target.expand_as(obs)
    outcomes = [None if each is None else each.unflatten(0, (-1, len(real))) for each in (imagined.rew, imagined.end)]
    values = None if watch is None else watch(obs[0])
    return Predictions(
        _to_array(frame_errors(obs, target)),
        _to_array(similarities(obs, target)),
        _to_array(moving_errors(obs, target, moving)),
        *[None if each is None else _to_array(each.sign()) for each in outcomes],
        value=None if values is None else values[None],
    )


def _values(
    critic: Critic | None, precision: torch.dtype, given: Batch, act: Tensor, frames: Tensor
) -> np.ndarray | None:
    """The policy's values (b, t) of frames (b, t, c, h, w), after it has watched the given frames before them.

    `act` (b, t) are the actions that lead to the frames, for policies that remember what was done.
    """
    if critic is None:
        return None
    memory, is_first = critic.initial(len(given)), torch.ones(len(given), dtype=torch.bool, device=act.device)
    values, acts = [], torch.cat((given.act[:, :-1], act), dim=1).unbind(1)
    for step, obs in enumerate(torch.cat((given.obs, frames), dim=1).unbind(1)):
        with autocast(act.device, precision):
            _, memory = critic.act(obs, memory, is_first)
            values.append(critic.thoughts(memory)[1])
            if isinstance(critic, Rememberer) and step < len(acts):
                memory = critic.took(memory, acts[step])
        is_first = torch.zeros_like(is_first)
    return _to_array(torch.stack(values[given.obs.size(1) :], dim=1))


def _join(parts: Sequence[Predictions]) -> Predictions:
    """The segments of all parts."""
    columns = zip(*[vars(part).values() for part in parts], strict=True)
    return Predictions(*[None if each[0] is None else np.concatenate(each, axis=1) for each in columns])


def _to_array(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()
