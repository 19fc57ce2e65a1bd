"""Worlds that are known exactly, measured on real episodes of a small game."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pixel_game
from data import Batch, Episode, Imagined, Start, Step
from evaluation.world_measure import Measured, measure_world
from evaluation.world_segments import Recorded, Recordings, record
from evaluation.world_summary import Metric, count_segments, summarise

HORIZON, NUM_CONTEXT, NUM_SEGMENTS, NUM_SAMPLES, GAMMA = 8, 2, 60, 2, 0.5
CPU = torch.device("cpu")


class Replay:
    """The game itself as a world: it reads the state from the last frame, and plays on."""

    num_context_steps = NUM_CONTEXT
    horizon = HORIZON
    shows_rewards = True
    num_envs = 1
    num_actions = len(pixel_game.MOVES)

    def imagine(self, batch: Batch, act: Tensor) -> Imagined:
        acts = torch.cat((batch.act[:, -1:], act), dim=1)
        played = [self._play(obs, row) for obs, row in zip(batch.obs[:, -1], acts, strict=True)]
        return Imagined(*[torch.stack(column) for column in zip(*played, strict=True)])

    def choose(self, act: int) -> int:
        return act

    def parts(self) -> Mapping[str, tuple[Any, str]]:
        return {}

    def prepare(self, num_steps: int) -> None: ...

    def reset(self) -> Start:
        raise AssertionError("a world that is measured only imagines")

    def step(self, act: Tensor) -> Step:
        raise AssertionError("a world that is measured only imagines")

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def _play(self, obs: Tensor, acts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        game, steps = pixel_game.Chase(), []
        game.agent, light = find_cells(obs)
        game.light = pixel_game.RING.index(light)
        for act in acts.tolist():
            frame, rew, end, _, _ = game.step(self.choose(act))
            steps.append((torch.from_numpy(frame).permute(2, 0, 1), torch.tensor(rew), torch.tensor(end)))
        return tuple(torch.stack(column) for column in zip(*steps, strict=True))


class Deaf(Replay):
    """Plays at random, whatever the actions are."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(5)

    def choose(self, act: int) -> int:
        return int(self.rng.integers(self.num_actions))


class Silent(Replay):
    """Imagines no rewards and ends."""

    shows_rewards = False

    def imagine(self, batch: Batch, act: Tensor) -> Imagined:
        return Imagined(super().imagine(batch, act).obs)


class Counting:
    """A policy whose value is the frame's mean brightness, plus the number of frames that it has watched."""

    gamma = GAMMA

    def initial(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, 2)

    def act(self, obs: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        count = torch.where(is_first, 0, memory[:, 1]) + 1
        light = obs.float().mean(dim=(1, 2, 3))
        return torch.zeros(len(obs), dtype=torch.int64), torch.stack((light, count), dim=1)

    def thoughts(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones(len(memory), 1), memory.sum(dim=1)


class Remembering(Counting):
    """Its value is the sum of the actions that were taken at the frames before."""

    def act(self, obs: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full((len(obs),), 1000), torch.where(is_first[:, None], 0, memory)

    def took(self, memory: Tensor, act: Tensor) -> Tensor:
        return memory + act[:, None] / 2

    def columns(self, memory: Tensor) -> Mapping[str, Tensor]:
        return {}


def find_cells(obs: Tensor) -> tuple[pixel_game.Cell, pixel_game.Cell]:
    """The cells of the agent and of the light in a frame (c, h, w)."""
    cell, side = pixel_game.CELL, range(pixel_game.SIDE)
    # The agent covers all rows of its cell but the first and the last.
    inner, outer = [
        {(row, column): tuple(obs[:, row * cell + first, column * cell].tolist()) for row in side for column in side}
        for first in (1, 0)
    ]
    agent = next(place for place, colour in inner.items() if colour == (70, 160, 250))
    return agent, next(place for place, colour in outer.items() if colour == (230, 60, 60))


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    """Episodes of random actions; the last step of every fifth one is missing."""
    env, rng, found = pixel_game.gymnasium.make("Chase-v0"), np.random.default_rng(2), []
    for number in range(25):
        frame, _ = env.reset(seed=number)
        rows, over = [], False
        while not over:
            act = int(rng.integers(len(pixel_game.MOVES)))
            obs = frame
            frame, rew, end, trunc, _ = env.step(act)
            over = end or trunc
            rows.append((torch.from_numpy(obs).permute(2, 0, 1), act, rew, end, trunc))
        obs, act, rew, end, trunc = zip(*rows, strict=True)
        flags = [torch.tensor(column, dtype=torch.uint8) for column in (end, trunc)]
        info = {"final_observation": torch.from_numpy(frame).permute(2, 0, 1)}
        found.append(Episode(torch.stack(obs), torch.tensor(act), torch.tensor(rew), *flags, info=info))
    return [each.first(max(1, len(each) - 1)) if number % 5 == 4 else each for number, each in enumerate(found)]


@pytest.fixture(scope="module")
def recorded(episodes: list[Episode]) -> Recorded:
    recordings = Recordings("random episodes", np.array([len(each) for each in episodes]), episodes.__getitem__)
    return record(recordings, NUM_CONTEXT, HORIZON, NUM_SEGMENTS, seed=1, gamma=GAMMA)


def measure(world: Replay, recorded: Recorded, critic: Counting | None = None) -> Measured:
    return measure_world(world, recorded, critic, NUM_SAMPLES, 0, CPU, torch.float32)


def by_name(measured: Measured, confidence: float = 0.95) -> dict[str, Metric]:
    return {metric.name: metric for metric in summarise(measured, confidence)}


def test_segments_are_what_was_recorded(episodes: list[Episode], recorded: Recorded) -> None:
    segments, ended, cut = recorded.segments, 0, 0
    for row, (number, start) in enumerate(zip(segments.episode_ids, segments.starts, strict=True)):
        episode = episodes[number]
        frames = list(episode.obs)
        if "final_observation" in episode.info:
            frames.append(episode.info["final_observation"])
        else:
            cut += 1
        for step in range(HORIZON):
            place = start + NUM_CONTEXT + step
            assert recorded.mask[row, step] == (place < len(frames))
            if place < len(frames):
                assert torch.equal(recorded.frames[row, step], frames[place])
                assert recorded.acts[row, step] == episode.act[place - 1]
                assert recorded.rew[row, step] == episode.rew[place - 1]
                assert recorded.end[row, step] == episode.end[place - 1].bool()
                ended += int(episode.end[place - 1])
        later = [episode.rew[place:].numpy() for place in range(start + NUM_CONTEXT, len(episode))][:HORIZON]
        returns = [float((np.sign(rew) * GAMMA ** np.arange(len(rew))).sum()) for rew in later]
        known = [episode.end[-1] or GAMMA ** len(rew) <= 0.05 for rew in later]
        wanted = [value if is_known else np.nan for value, is_known in zip(returns, known, strict=True)]
        np.testing.assert_allclose(recorded.returns[row, : len(later)], wanted)
        assert np.isnan(recorded.returns[row, len(later) :]).all()
    assert ended > 5
    assert cut > 0
    assert len(segments) == len(recorded.mask) >= NUM_SEGMENTS - 2


def test_a_perfect_world(recorded: Recorded) -> None:
    measured = measure(Replay(), recorded)
    metrics = by_name(measured)
    everywhere = np.ones(HORIZON)
    for name in ("psnr", "psnr_moving"):
        for way in ("model", "best"):
            curve = metrics[name].curves[way]
            assert np.isposinf([curve.value, curve.low, curve.high]).all()
        assert np.isfinite(metrics[name].curves["shuffled"].value).all()
    np.testing.assert_allclose(metrics["ssim"].curves["model"].value, everywhere, atol=1e-4)
    assert (metrics["controllability"].curves["model"].value > 0).all()
    assert (metrics["controllability"].curves["model"].low > 0).all()
    for event in ("reward_positive", "end"):
        for part in ("precision", "recall"):
            value = metrics[f"{event}_{part}"].curves["model"].value
            np.testing.assert_array_equal(value[1:], everywhere[1:])
    assert metrics["reward_positive_recall"].curves["shuffled"].value[-1] < 0.9
    # This game has no negative rewards, and without a policy there are no values.
    assert not {"reward_negative_precision", "value_error"} & metrics.keys()
    assert torch.equal(measured.frames[recorded.mask], recorded.frames[recorded.mask])


def test_frames_are_compared_exactly_in_any_precision(recorded: Recorded) -> None:
    """Only networks run in bfloat16."""
    rounded = by_name(measure_world(Replay(), recorded, None, 1, 0, CPU, torch.bfloat16))
    for name, metric in by_name(measure(Replay(), recorded)).items():
        for way in ("model", "copy"):
            if way in metric.curves:
                np.testing.assert_array_equal(metric.curves[way].value, rounded[name].curves[way].value)


def test_copying_the_last_frame_is_what_numpy_computes(recorded: Recorded) -> None:
    metrics = by_name(measure(Replay(), recorded))
    real, mask = recorded.batch.obs.numpy() / 255, recorded.mask.numpy()
    for step in range(HORIZON):
        errors, moving_errors = [], []
        for row in np.flatnonzero(mask[:, step]):
            last, before, now = real[row, NUM_CONTEXT - 1], *real[row, NUM_CONTEXT + step - 1 :][:2]
            squares = (last - now) ** 2
            errors.append(squares.mean())
            differs = np.pad((before != now).any(axis=0), 1)
            side = range(pixel_game.FRAME)
            moves = np.array([[differs[y : y + 3, x : x + 3].any() for x in side] for y in side])
            if moves.any():
                moving_errors.append(squares[:, moves].mean())
        for name, found in (("psnr", errors), ("psnr_moving", moving_errors)):
            wanted = -10 * np.log10(np.mean(found))
            assert metrics[name].curves["copy"].value[step] == pytest.approx(wanted, abs=1e-4)


def test_a_world_that_ignores_actions_is_not_controllable(recorded: Recorded) -> None:
    """At each of four steps the 99.9% interval contains zero, except in one of 250 recordings."""
    metrics = by_name(measure(Deaf(), recorded), confidence=0.999)
    curve = metrics["controllability"].curves["model"]
    for step in (0, 1, 4, HORIZON - 1):
        assert curve.low[step] < 0 < curve.high[step]


def test_the_best_sample_is_never_worse_than_the_mean(recorded: Recorded) -> None:
    metrics = by_name(measure(Deaf(), recorded))
    for name in ("psnr", "psnr_moving", "ssim"):
        curves = metrics[name].curves
        assert (curves["best"].value > curves["model"].value).all()


def test_a_world_without_rewards(recorded: Recorded) -> None:
    metrics = by_name(measure(Silent(), recorded))
    assert metrics.keys() == {"psnr", "psnr_moving", "ssim", "controllability"}


def test_values_against_real_returns(recorded: Recorded) -> None:
    measured = measure(Replay(), recorded, Counting())
    metrics = by_name(measured)
    for step in (0, 3):
        known = np.flatnonzero(~np.isnan(recorded.returns[:, step]) & recorded.mask[:, step].numpy())
        light = recorded.frames[known, step].numpy().mean(axis=(1, 2, 3))
        values = light + NUM_CONTEXT + step + 1
        returns = recorded.returns[known, step]
        for way in ("model", "real"):
            error = metrics["value_error"].curves[way].value[step]
            assert error == pytest.approx(np.abs(values - returns).mean(), rel=1e-4)
            found = metrics["value_correlation"].curves[way].value[step]
            assert found == pytest.approx(np.corrcoef(values, returns)[0, 1], abs=1e-3)
    shuffled = metrics["value_error"].curves["shuffled"].value
    assert not np.allclose(shuffled, metrics["value_error"].curves["model"].value)


def test_policies_remember_the_recorded_actions(recorded: Recorded) -> None:
    measured = measure(Replay(), recorded, Remembering())
    wanted = recorded.batch.act[:, :-1].cumsum(dim=1)[:, NUM_CONTEXT - 1 :].numpy()
    mask = recorded.mask.numpy()
    for values in (measured.model.value[0], measured.real_value):
        np.testing.assert_allclose(values[mask], wanted[mask])
    assert not np.allclose(measured.shuffled.value[0][mask], wanted[mask])


def test_equal_seeds_give_equal_numbers(recorded: Recorded) -> None:
    some, again = [by_name(measure(Replay(), recorded)) for _ in range(2)]
    for name, metric in some.items():
        for way, curve in metric.curves.items():
            np.testing.assert_array_equal(curve.high, again[name].curves[way].high)


def test_segments_are_counted(recorded: Recorded) -> None:
    counts = count_segments(measure(Replay(), recorded))
    assert counts[0] == len(recorded.mask)
    assert (np.diff(counts) <= 0).all()
    assert counts[-1] == recorded.mask[:, -1].sum()
