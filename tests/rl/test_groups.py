"""Groups of environments that take turns: the same games as in one group, also begun ahead, saved and restored."""

import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from data import Episode
from envs import AtariConfig, GymConfig, RealEnv, make_groups
from rl.collector import Collector
from run.device import autocast, casts_kept, one_thread

CPU = torch.device("cpu")
ATARI = AtariConfig("BreakoutNoFrameskip-v4", size=16, done_on_life_loss=True)
CHASE = GymConfig("pixel_game:Chase-v0", size=16)
NUM_ENVS, NUM_STEPS = 5, 120


class Looker:
    """Actions that depend on the frame and on the age of the episode alone, and are random with `noise`."""

    def __init__(self, num_actions: int, noise: bool = False) -> None:
        self.num_actions, self.noise = num_actions, noise

    def initial(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, dtype=torch.int64)

    def act(self, obs: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        age = torch.where(is_first, 0, memory + 1)
        act = (obs.flatten(1).long().sum(1) + age // 3) % self.num_actions
        return torch.randint_like(act, self.num_actions) if self.noise else act, age

    def took(self, memory: Tensor, act: Tensor) -> Tensor:
        return memory

    def columns(self, memory: Tensor) -> dict[str, Tensor]:
        return {"age": memory}


class Shelf:
    """Keeps episodes, and their parts, in the order in which they are stored."""

    def __init__(self) -> None:
        self.parts: list[tuple[int | None, Episode]] = []

    def __call__(self, episode: Episode, episode_id: int | None) -> int:
        self.parts.append((episode_id, episode))
        return len(self.parts) - 1


def collect(game: AtariConfig | GymConfig, num_groups: int, ahead: Callable[[int], bool]) -> Shelf:
    """What a policy without randomness stores in 120 steps of 5 environments."""
    shelf = Shelf()
    envs = make_groups(game, NUM_ENVS, num_groups, 3, CPU)
    collector = Collector(envs, Looker(envs[0].num_actions), shelf, epsilon=0.0)
    collector.begin()
    for number in range(NUM_STEPS):
        collector.step(ahead(number))
    collector.store_unfinished()
    return shelf


def same(one: Shelf, other: Shelf) -> bool:
    """Whether the same episodes were stored in the same order."""
    return len(one.parts) == len(other.parts) and all(
        first_id == second_id
        and all(
            torch.equal(getattr(first, name), getattr(second, name)) for name in ("obs", "act", "rew", "end", "trunc")
        )
        and torch.equal(first.extra["age"], second.extra["age"])
        for (first_id, first), (second_id, second) in zip(one.parts, other.parts, strict=True)
    )


@pytest.mark.parametrize("game", [ATARI, CHASE], ids=["atari", "gym"])
def test_the_games_do_not_depend_on_the_groups(game: AtariConfig | GymConfig) -> None:
    """Nor on whether steps begin ahead, always or at times. Five environments make groups of two and one."""
    wanted = collect(game, 1, lambda number: False)
    assert len(wanted.parts) > NUM_ENVS, "No episode ended."
    assert same(collect(game, 1, lambda number: True), wanted)
    for num_groups in (3, 5, 9):
        assert same(collect(game, num_groups, lambda number: False), wanted)
        assert same(collect(game, num_groups, lambda number: True), wanted)
        assert same(collect(game, num_groups, lambda number: number % 3 == 0), wanted)


def test_groups_play_different_games() -> None:
    shelf = collect(ATARI, NUM_ENVS, lambda number: False)
    assert len({part.obs[:20].numpy().tobytes() for _, part in shelf.parts[-NUM_ENVS:]}) > 1


@pytest.mark.parametrize("game", [ATARI, CHASE], ids=["atari", "gym"])
@pytest.mark.parametrize("saved_at", [1, 40])
def test_saved_while_steps_are_under_way(game: AtariConfig | GymConfig, saved_at: int) -> None:
    """Random actions that were chosen ahead are taken, and saving does not disturb the collector."""

    def make() -> tuple[Collector, Shelf]:
        shelf = Shelf()
        envs = make_groups(game, NUM_ENVS, 2, 3, CPU)
        policy = Looker(envs[0].num_actions, noise=True)
        return Collector(envs, policy, shelf, epsilon=0.3, zeta=1.5), shelf

    def play(collector: Collector, count: int) -> None:
        for _ in range(count):
            collector.step(ahead=True)

    torch.manual_seed(0)
    (undisturbed, wanted), (saved, shelf) = make(), make()
    random = torch.get_rng_state()
    undisturbed.begin()
    play(undisturbed, NUM_STEPS)
    undisturbed.store_unfinished()

    torch.set_rng_state(random)
    saved.begin()
    play(saved, saved_at)
    file, random = io.BytesIO(), torch.get_rng_state()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert all(group["choice"] is not None for group in state["groups"])
    stored = list(shelf.parts)
    play(saved, NUM_STEPS - saved_at)
    saved.store_unfinished()
    assert same(shelf, wanted)

    restored, shelf = make()
    shelf.parts = stored
    restored.load_state_dict(state, CPU)
    torch.set_rng_state(random)
    play(restored, NUM_STEPS - saved_at)
    restored.store_unfinished()
    assert same(shelf, wanted)
    assert restored.returns == saved.returns == undisturbed.returns


def test_begun_steps_are_dropped_by_new_games() -> None:
    envs = make_groups(CHASE, 2, 2, 0, CPU)
    collector = Collector(envs, Looker(envs[0].num_actions), Shelf(), epsilon=0.0)
    collector.begin()
    collector.step(ahead=True)
    collector.begin(num_episodes=2)
    assert list(collector.rest())[-1] == 2
    assert collector.num_steps == sum(collector.lengths)


class Threads(Looker):
    """Sees with how many threads it acts."""

    def __init__(self, num_actions: int) -> None:
        super().__init__(num_actions)
        self.threads: set[int] = set()

    def act(self, obs: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        self.threads.add(torch.get_num_threads())
        return super().act(obs, memory, is_first)


@pytest.mark.parametrize(("num_groups", "wanted"), [(1, 3), (2, 1)])
def test_the_policy_leaves_cores_to_the_emulators(num_groups: int, wanted: int) -> None:
    """With one group, all of them are its own while it acts."""
    envs: list[RealEnv] = make_groups(CHASE, 2, num_groups, 0, CPU)
    policy = Threads(envs[0].num_actions)
    collector, before = Collector(envs, policy, None, epsilon=0.0), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        collector.begin()
        collector.step()
        assert torch.get_num_threads() == 3
        assert policy.threads == {wanted}
        with pytest.raises(KeyError), one_thread():
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_weights_are_cast_once() -> None:
    """Inside `casts_kept` only: afterwards new weights count."""
    linear, inputs = torch.nn.Linear(4, 4, bias=False), torch.eye(4)

    def outputs() -> Tensor:
        with torch.no_grad(), autocast(CPU, torch.bfloat16):
            return linear(inputs)

    first = outputs()
    with casts_kept():
        assert torch.equal(outputs(), first)
        linear.weight.data.mul_(2)
        assert torch.equal(outputs(), first)
    assert torch.equal(outputs(), 2 * first)
