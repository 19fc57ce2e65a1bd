"""Real environments: preprocessing, lives, and restoring any state by replaying actions."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from ale_py import roms
from gymnasium.spaces import Box, Discrete

from data import Step
from envs import AtariConfig, GymConfig, RealEnv, make_env
from envs.atari import parse_atari_id
from errors import UserError
from ranges import BadSetting

CPU = torch.device("cpu")
BREAKOUT = AtariConfig("BreakoutNoFrameskip-v4", size=16, done_on_life_loss=True)


class Shapes(gymnasium.Env):
    """Shows its step count in frames of a given shape; actions begin at 3."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (Gymnasium's own way)

    def __init__(self, shape: tuple[int, ...] = (6, 6, 3), render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = Box(0, 255, shape, np.uint8)
        self.action_space = Discrete(4, start=3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.count = int(self.np_random.integers(100))
        return self._obs(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert 3 <= action <= 6
        self.count += action
        return self._obs(), 0.5 * action, self.count > 130, False, {}

    def render(self) -> np.ndarray:
        return np.full((8, 12, 3), self.count, np.uint8)

    def _obs(self) -> np.ndarray:
        return np.full(self.observation_space.shape, self.count, np.uint8)


class Vector(Shapes):
    """An environment whose observation is not an image."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__((4,), render_mode)


class Blind(Vector):
    metadata = {"render_modes": []}  # noqa: RUF012


class Continuous(Shapes):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.action_space = Box(-1, 1, (2,))


for _kind in (Shapes, Vector, Blind, Continuous):
    gymnasium.register(f"tests/{_kind.__name__}-v0", entry_point=_kind, max_episode_steps=20)


def step_by_step(env: RealEnv, num_steps: int, seed: int) -> Iterator[Step]:
    rng = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        yield env.step(torch.randint(env.num_actions, (env.num_envs,), generator=rng))


def play(env: RealEnv, num_steps: int, seed: int) -> list[Step]:
    return list(step_by_step(env, num_steps, seed))


def assert_same_steps(ours: list[Step], theirs: list[Step]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for name in ("obs", "rew", "end", "trunc", "final_obs"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize(
    "config",
    [
        BREAKOUT,
        AtariConfig("BreakoutNoFrameskip-v4", size=16, max_episode_steps=60),
        AtariConfig("ALE/Breakout-v5", size=16, done_on_life_loss=True),
        AtariConfig("PongNoFrameskip-v4", size=16),
        GymConfig("tests/Shapes-v0", size=6),
    ],
    ids=["lives", "truncated", "sticky", "pong", "gym"],
)
@pytest.mark.parametrize(
    ("num_steps", "reseed_after"),
    [
        (0, 200),
        (1, 200),
        (451, 200),
        *[pytest.param(*case, marks=pytest.mark.slow) for case in ((150, 200), (451, 10**9))],
    ],
)
def test_a_restored_environment_continues_the_same(
    config: AtariConfig | GymConfig, num_steps: int, reseed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envs.real_env.RESEED_AFTER", reseed_after)
    env = make_env(config, 3, seed=5, device=CPU)
    env.reset()
    play(env, num_steps, seed=0)
    state = env.state_dict()
    theirs = play(env, 200, seed=1)
    again = make_env(config, 3, seed=5, device=CPU)
    again.load_state_dict(state)
    assert_same_steps(play(again, 200, seed=1), theirs)


def test_any_moment_can_be_restored() -> None:
    """Including the moment after a reset, and games with different numbers of steps."""
    config = GymConfig("tests/Shapes-v0", size=6)
    env = make_env(config, 4, seed=5, device=CPU)
    env.reset()
    rng = torch.Generator().manual_seed(0)
    for _ in range(40):
        env.step(torch.randint(env.num_actions, (4,), generator=rng))
        again = make_env(config, 4, seed=5, device=CPU)
        again.load_state_dict(env.state_dict())
        state = env.state_dict()
        theirs = play(env, 6, seed=1)
        assert_same_steps(play(again, 6, seed=1), theirs)
        env.load_state_dict(state)


def test_seeds_make_games() -> None:
    envs = [make_env(AtariConfig("ALE/Breakout-v5", size=16), 2, seed, CPU) for seed in (0, 0, 1)]
    for env in envs:
        env.reset()
    first, same, other = [torch.stack([step.obs for step in play(env, 100, seed=0)]) for env in envs]
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:, 0], first[:, 1])


def test_a_lost_life_ends_the_episode_but_not_the_game() -> None:
    env = make_env(BREAKOUT, 1, seed=0, device=CPU)
    env.reset()
    # After a lost life the last frame is the next one; after a game over it is not.
    ends = [not torch.equal(step.obs, step.final_obs) for step in step_by_step(env, 400, seed=0) if step.end[0]]
    # Breakout has five lives: after four ends the game continues, after the fifth it does not.
    assert ends[:5] == [False] * 4 + [True]


def test_only_a_game_over_ends_a_test_episode() -> None:
    env = make_env(AtariConfig("BreakoutNoFrameskip-v4", size=16), 1, seed=0, device=CPU)
    env.reset()
    steps = play(env, 400, seed=0)
    assert [bool(step.end[0]) for step in steps] == [not torch.equal(step.obs, step.final_obs) for step in steps]
    assert sum(bool(step.end[0]) for step in steps) >= 1


def test_environments_are_seeded_again_after_enough_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env(AtariConfig("BreakoutNoFrameskip-v4", size=16), 2, seed=0, device=CPU)
    env.reset()
    play(env, 800, seed=0)
    assert env.state_dict()["num_seeds"] == [1, 1]
    monkeypatch.setattr("envs.real_env.RESEED_AFTER", 300)
    ends = torch.stack([step.end for step in play(env, 800, seed=1)]).sum(dim=0)
    seeds = torch.tensor(env.state_dict()["num_seeds"])
    # The first game over after that, and later ones at least 300 steps after the last seeding.
    assert (seeds >= 3).all()
    assert (seeds - 1 < ends).all()


def test_truncation_of_atari() -> None:
    env = make_env(AtariConfig("PongNoFrameskip-v4", size=16, noop_max=0, max_episode_steps=25), 2, 0, CPU)
    env.reset()
    steps = play(env, 60, seed=0)
    assert [index for index, step in enumerate(steps) if step.trunc.all()] == [24, 49]
    assert not any(step.end.any() for step in steps)


@pytest.mark.parametrize("shape", [(6, 6, 3), (3, 6, 6), (6, 6), (6, 6, 1), (1, 9, 7)])
def test_gym_images_of_any_shape(shape: tuple[int, ...]) -> None:
    env = make_env(GymConfig("tests/Shapes-v0", size=6, options={"shape": shape}), 2, 0, CPU)
    start = env.reset()
    assert start.obs.shape == (2, 3, 6, 6)
    before = start.obs[:, 0, 0, 0].int()
    step = env.step(torch.tensor([0, 3]))
    assert env.num_actions == 4
    assert step.final_obs.shape == (2, 3, 6, 6)
    # Action 0 is the space's first one, 3.
    assert (step.final_obs[:, 0, 0, 0].int() - before).tolist() == [3, 6]
    assert step.rew.tolist() == [1.5, 3.0]


def test_gym_renders_if_observations_are_not_images() -> None:
    env = make_env(GymConfig("tests/Vector-v0", size=4), 1, 0, CPU)
    start = env.reset()
    assert start.obs.shape == (1, 3, 4, 4)
    assert start.obs.unique().numel() == 1


def test_gym_truncates_by_its_limit() -> None:
    env = make_env(GymConfig("tests/Shapes-v0", size=6, max_episode_steps=4), 1, 0, CPU)
    env.reset()
    lengths, age = [], 0
    for step in play(env, 30, seed=0):
        age += 1
        if step.dead[0]:
            lengths.append((age, bool(step.trunc[0])))
            age = 0
    assert (4, True) in lengths
    assert all(length == 4 for length, truncated in lengths if truncated)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (AtariConfig("BreakotNoFrameskip-v4"), "Did you mean BreakoutNoFrameskip-v4"),
        (AtariConfig("ALE/Pnog-v5"), "Did you mean ALE/Pong-v5"),
        (AtariConfig("Breakout-v4"), "use <Game>NoFrameskip-v4 or ALE/<Game>-v5. Did you mean BreakoutNoFrameskip-v4"),
        (AtariConfig("CombatNoFrameskip-v4"), "is not an Atari game for one player"),
        (GymConfig("CartPool-v1"), "is unknown to Gymnasium. Did you mean CartPole-v1"),
        (GymConfig("no_such_module:Game-v0"), "No module named 'no_such_module'"),
        (GymConfig("tests/Blind-v0"), "shows nothing"),
        (GymConfig("tests/Continuous-v0"), "a Discrete one is needed"),
        (GymConfig("tests/Shapes-v0", options={"colour": 3}), "unexpected keyword argument 'colour'"),
    ],
)
def test_mistakes_are_one_clear_line(config: AtariConfig | GymConfig, words: str) -> None:
    with pytest.raises(UserError) as caught:
        make_env(config, 1, 0, CPU)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def one_player_games() -> list[str]:
    return [spec.name for spec in gymnasium.registry.values() if spec.namespace == "ALE"]


def test_every_game_has_both_ids() -> None:
    assert len(one_player_games()) >= 100
    for name in one_player_games():
        rom, sticky_actions = parse_atari_id(f"{name}NoFrameskip-v4")
        assert sticky_actions == 0
        assert parse_atari_id(f"ALE/{name}-v5") == (rom, 0.25)
        assert rom in roms.get_all_rom_ids()


@pytest.mark.slow
def test_every_game_plays() -> None:
    for name in one_player_games():
        env = make_env(AtariConfig(f"{name}NoFrameskip-v4", done_on_life_loss=True), 1, 0, CPU)
        assert env.reset().obs.shape == (1, 3, 64, 64)
        assert play(env, 3, seed=0)[-1].obs.shape == (1, 3, 64, 64)
        env.close()


def test_antialiased_frames_of_one_channel() -> None:
    """Near those of area interpolation, and not the same."""
    frames = []
    for resize in ("area", "bilinear_antialiased"):
        config = AtariConfig("PongNoFrameskip-v4", (48, 64), noop_max=0, grayscale=True, resize=resize)
        env = make_env(config, 1, 0, torch.device("cpu"))
        frames.append(env.reset().obs.float())
        env.close()
    assert frames[0].shape == frames[1].shape == (1, 1, 48, 64)
    assert 0 < (frames[0] - frames[1]).abs().mean() < 8


def test_unknown_interpolations_are_refused() -> None:
    with pytest.raises(BadSetting, match="resize=cubic is unknown: use area or bilinear_antialiased"):
        AtariConfig("PongNoFrameskip-v4", resize="cubic")
