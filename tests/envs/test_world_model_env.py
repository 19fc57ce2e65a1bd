"""The imagined environment against a plain loop with the same random numbers."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data import Batch, Segments, Step, to_bytes, to_unit_range
from envs import WorldModelEnv, WorldModelEnvConfig
from errors import UserError
from models.diffusion import Denoiser, DenoiserConfig, DiffusionSampler, DiffusionSamplerConfig, InnerModelConfig
from models.losses import sample_categorical
from models.rew_end_model import RewEndModel, RewEndModelConfig

N, SIZE, NUM_ENVS, HORIZON = 3, 8, 5, 3


@pytest.fixture
def env() -> WorldModelEnv:
    torch.manual_seed(1)
    denoiser = Denoiser(DenoiserConfig(InnerModelConfig(3, N, 12, (1,), (8,), (0,), 4), 0.5, 0.3))
    rew_end_model = RewEndModel(RewEndModelConfig(8, 3, SIZE, 8, (1,), (8,), (0,), 4))
    for module in (denoiser, rew_end_model):
        for parameter in module.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return WorldModelEnv(denoiser.eval(), rew_end_model.eval(), DrawStarts(), config(), NUM_ENVS)


def config(num_batches: int = 20) -> WorldModelEnvConfig:
    return WorldModelEnvConfig(HORIZON, num_batches, DiffusionSamplerConfig(2))


class DrawStarts:
    """Starts that can be told apart, some of them padded."""

    def __init__(self) -> None:
        self.rng = torch.Generator().manual_seed(0)
        self.drawn: list[Batch] = []

    def __call__(self, count: int) -> Batch:
        frames = torch.randint(256, (count, N, 3, SIZE, SIZE), generator=self.rng, dtype=torch.uint8)
        act = torch.randint(4, (count, N), generator=self.rng)
        flags, mask = torch.zeros(count, N), torch.ones(count, N, dtype=torch.bool)
        mask[0, 0] = False
        first = count * len(self.drawn)
        segments = Segments(np.arange(first, first + count), np.zeros(count, np.int64), N)
        self.drawn.append(Batch(frames, act, flags, flags, flags, mask, frames[:, 0], segments=segments))
        return self.drawn[-1]

    def gather(self, segments: Segments) -> Batch:
        return next(batch for batch in self.drawn if (batch.segments.episode_ids == segments.episode_ids).all())


class PlainLoop:
    """The same environment, one after the other, with branches."""

    def __init__(self, env: WorldModelEnv, starts: list[Batch]) -> None:
        self.env = env
        frames, act = torch.cat([each.frames for each in starts]), torch.cat([each.act for each in starts])
        self.starts = iter(zip(frames, act, strict=True))
        self.worlds = [self.begin() for _ in range(env.num_envs)]

    def begin(self) -> dict:
        obs, act = next(self.starts)
        hx_cx = None
        for step in range(N - 1):
            *_, hx_cx = self.env.rew_end_model.predict(
                obs[None, step : step + 1], act[None, step : step + 1], obs[None, step + 1 : step + 2], hx_cx
            )
        return {"obs": obs, "act": act, "hx_cx": hx_cx, "age": 0}

    @torch.no_grad()
    def step(self, act: Tensor) -> list[dict]:
        for world, action in zip(self.worlds, act, strict=True):
            world["act"] = torch.cat((world["act"][:-1], action[None]))
        obs, acts = [torch.stack([world[name] for world in self.worlds]) for name in ("obs", "act")]
        frames = to_unit_range(to_bytes(self.env.sampler.sample(obs, acts)[0]))
        hx_cx = tuple(torch.cat([world["hx_cx"][part] for world in self.worlds], dim=1) for part in (0, 1))
        logits_rew, logits_end, (hx, cx) = self.env.rew_end_model.predict(
            obs[:, -1:], act[:, None], frames[:, None], hx_cx
        )
        rew, end = sample_categorical(logits_rew[:, 0]) - 1, sample_categorical(logits_end[:, 0])
        results = []
        for index, world in enumerate(self.worlds):
            world["age"] += 1
            truncated = world["age"] == HORIZON
            result = {"rew": int(rew[index]), "end": bool(end[index]), "trunc": truncated, "final_obs": frames[index]}
            if result["end"] or truncated:
                self.worlds[index] = self.begin()
                result["history"] = self.worlds[index]["obs"][:-1]
            else:
                world["obs"] = torch.cat((world["obs"][1:], frames[index][None]))
                world["act"] = world["act"].roll(-1, 0)
                world["hx_cx"] = (hx[:, index : index + 1], cx[:, index : index + 1])
            result["obs"] = self.worlds[index]["obs"][-1]
            results.append(result)
        return results


def test_masked_imagination_equals_the_plain_loop(env: WorldModelEnv) -> None:
    env.prepare(18)
    start = env.reset()
    plain = PlainLoop(env, env.draw_starts.drawn)
    assert torch.equal(start.obs, torch.stack([to_bytes(world["obs"][-1]) for world in plain.worlds]))
    ended = truncated = 0
    for step in range(18):
        act = torch.randint(4, (NUM_ENVS,))
        torch.manual_seed(step)
        ours = env.step(act)
        torch.manual_seed(step)
        for index, theirs in enumerate(plain.step(act)):
            assert int(ours.rew[index]) == theirs["rew"]
            assert bool(ours.end[index]) == theirs["end"]
            assert bool(ours.trunc[index]) == theirs["trunc"]
            assert torch.equal(ours.final_obs[index], to_bytes(theirs["final_obs"]))
            assert torch.equal(ours.obs[index], to_bytes(theirs["obs"]))
            if "history" in theirs:
                assert torch.equal(ours.history[index], theirs["history"])
            ended, truncated = ended + theirs["end"], truncated + theirs["trunc"]
    assert ended > 3
    assert truncated >= 3


def test_starts_are_never_used_twice_in_a_rollout(env: WorldModelEnv) -> None:
    origins = []
    for rollout in range(6):
        env.prepare(15)
        origins += [env.reset().origin] if rollout == 0 else []
        for _ in range(15):
            step = env.step(torch.randint(4, (NUM_ENVS,)))
            origins.append(step.origin[step.dead])
    used = torch.cat(origins)
    assert len(used) > 6 * 15 * NUM_ENVS / HORIZON
    assert len(used.unique(dim=0)) == len(used)


def test_an_origin_names_the_last_frame_of_a_start(env: WorldModelEnv) -> None:
    """Wherever an episode starts, its first frame is the one that the origin names."""
    env.prepare(12)
    start = env.reset()
    frames = torch.cat([batch.obs[:, -1] for batch in env.draw_starts.drawn])

    def assert_right(obs: Tensor, origin: Tensor) -> None:
        episode_ids, steps = origin.unbind(1)
        assert (steps == N - 1).all()
        assert torch.equal(obs, frames[episode_ids])

    assert_right(start.obs, start.origin)
    for _ in range(12):
        step = env.step(torch.randint(4, (NUM_ENVS,)))
        assert_right(step.obs[step.dead], step.origin[step.dead])


def test_too_few_starts_is_a_clear_line(env: WorldModelEnv) -> None:
    env.check_rollout(19)
    with pytest.raises(UserError, match="num_batches_to_preload=20 is too few for rollouts of 20 steps"):
        env.check_rollout(20)


def test_a_restored_environment_continues_the_same(env: WorldModelEnv) -> None:
    """Its starts are gathered again, and every later one is drawn as it would have been."""
    env.prepare(12)
    env.reset()
    act = torch.randint(4, (NUM_ENVS,))
    env.step(act)
    state, random_state = env.state_dict(), torch.get_rng_state()
    assert "obs" not in state["starts"]
    draws = DrawStarts()
    draws.rng.set_state(env.draw_starts.rng.get_state())
    draws.drawn = list(env.draw_starts.drawn)
    gather = env.draw_starts.gather
    theirs = take_steps(env, act)
    again = WorldModelEnv(env.denoiser, env.rew_end_model, draws, config(), NUM_ENVS, gather_starts=gather)
    again.load_state_dict(state)
    assert_same(again.state_dict(), state)
    torch.set_rng_state(random_state)
    for ours, step in zip(take_steps(again, act), theirs, strict=True):
        for field in dataclasses.fields(step):
            torch.testing.assert_close(getattr(ours, field.name), getattr(step, field.name), rtol=0, atol=0)
    assert_same(again.state_dict(), env.state_dict())


def take_steps(env: WorldModelEnv, act: Tensor) -> list[Step]:
    """Two rollouts, the first of which was prepared before."""
    steps = [env.step(act) for _ in range(11)]
    env.prepare(12)
    return [*steps, *[env.step(act) for _ in range(12)]]


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert str(ours["starts"]) == str(theirs["starts"])
    torch.testing.assert_close(ours["now"], theirs["now"], rtol=0, atol=0)
    assert torch.equal(ours["age"], theirs["age"])


def test_only_as_many_starts_are_drawn_as_steps_may_need(env: WorldModelEnv) -> None:
    used = NUM_ENVS
    env.prepare(12)
    assert len(env.draw_starts.drawn) == 12
    env.reset()
    for _ in range(5):
        env.prepare(12)
        assert 12 * NUM_ENVS <= len(env.draw_starts.drawn) * NUM_ENVS - used < 13 * NUM_ENVS
        used += sum(int(env.step(torch.randint(4, (NUM_ENVS,))).dead.sum()) for _ in range(12))


def test_forgotten_starts_are_drawn_again(env: WorldModelEnv) -> None:
    env.prepare(12)
    env.reset()
    drawn = len(env.draw_starts.drawn)
    env.prepare(12)
    assert len(env.draw_starts.drawn) == drawn
    env.forget_starts()
    env.prepare(12)
    assert len(env.draw_starts.drawn) == drawn + 12
    assert not env.state_dict()["starts"]["used"]


def test_imagine_continues_from_its_own_frames(env: WorldModelEnv) -> None:
    starts, act = env.draw_starts(2), torch.randint(4, (2, 1))
    sampler = DiffusionSampler(env.denoiser, config().diffusion_sampler)
    torch.manual_seed(0)
    frames = env.imagine(starts, act).obs
    torch.manual_seed(0)
    first, _ = sampler.sample(to_unit_range(starts.obs), starts.act)
    history = torch.cat((to_unit_range(starts.obs[:, 1:]), to_unit_range(to_bytes(first))[:, None]), dim=1)
    second, _ = sampler.sample(history, torch.cat((starts.act[:, 1:], act), dim=1))
    assert torch.equal(frames, torch.stack((to_bytes(first), to_bytes(second)), dim=1))


@torch.no_grad()
def test_imagine_rewards_what_it_imagined(env: WorldModelEnv) -> None:
    """Rewards and ends are drawn after the frames, from the logits of the whole sequence at once."""
    starts, act = env.draw_starts(2), torch.randint(4, (2, 3))
    torch.manual_seed(0)
    imagined = env.imagine(starts, act)
    torch.manual_seed(0)
    sampler = DiffusionSampler(env.denoiser, config().diffusion_sampler)
    for _ in range(4):
        sampler.sample(to_unit_range(starts.obs), starts.act)
    frames = torch.cat((starts.frames, to_unit_range(imagined.obs)), dim=1)
    acts = torch.cat((starts.act, act), dim=1)
    logits_rew, logits_end, _ = env.rew_end_model.predict(frames[:, :-1], acts, frames[:, 1:])
    for step in range(4):
        place = N - 1 + step
        assert torch.equal(imagined.rew[:, step], sample_categorical(logits_rew[:, place]).float() - 1)
        assert torch.equal(imagined.end[:, step], sample_categorical(logits_end[:, place]).bool())


@torch.no_grad()
def test_a_world_without_rewards_imagines_only_frames(env: WorldModelEnv) -> None:
    starts = env.draw_starts(2)
    imagined = WorldModelEnv(env.denoiser, None, env.draw_starts, config(), 2).imagine(starts, starts.act[:, :0])
    assert imagined.obs.shape == (2, 1, 3, SIZE, SIZE)
    assert imagined.rew is None
    assert imagined.end is None


def test_worlds_that_are_stepped_together_are_one_world_with_more_rows(env: WorldModelEnv) -> None:
    """With the same starts and random numbers; each keeps its own horizon, and restarts by itself."""

    class Dealt:
        """Deals the rows of one source of starts, one at a time."""

        def __init__(self, batch: Batch, row: int) -> None:
            self.batch, self.row = batch, row

        def __call__(self, count: int) -> Batch:
            values = {field.name: getattr(self.batch, field.name) for field in dataclasses.fields(self.batch)}
            rows = {name: value[self.row : self.row + 1] for name, value in values.items() if torch.is_tensor(value)}
            return Batch(**{**values, **rows, "segments": None})

    batch = DrawStarts()(3)
    # The whole world ends nowhere, so that its rows stay those that were dealt.
    parts = (env.denoiser, env.rew_end_model)
    whole = WorldModelEnv(*parts, lambda count: batch, config(), 3)
    singles = [WorldModelEnv(*parts, Dealt(batch, row), config(), 1) for row in range(3)]
    for world in (whole, *singles):
        world.horizon = 1000
        world.reset()
    singles[1].horizon = 1
    assert singles[0].can_join(singles[2])
    assert not singles[0].can_join(object())
    act = torch.tensor([3, 0, 2])
    torch.manual_seed(4)
    expected = whole.step(act)
    torch.manual_seed(4)
    answers = singles[0].step_joined(singles, act)
    for row, answer in enumerate(answers):
        assert torch.equal(answer.final_obs[0], expected.final_obs[row])
        assert answer.rew[0] == expected.rew[row]
        assert answer.end[0] == expected.end[row]
        assert bool(answer.trunc[0]) == (row == 1)
    assert torch.equal(answers[1].obs[0], batch.obs[1, -1])
    singles[0].num_steps_denoising = 4
    assert not singles[0].can_join(singles[2])
    assert len(singles[0].step(act[:1]).trajectory) == 5
