"""Rows of DreamerV3: what a window holds, from which windows batches are drawn, and what is written back."""

import numpy as np
import pytest
import torch

from algorithms.dreamer.rows import Places, Windows
from data import Episode, Replay

CPU = torch.device("cpu")
LENGTH = 4


def make_episode(first: int, num_steps: int, end: bool = False, trunc: bool = False) -> Episode:
    """Steps numbered from `first` on: in the frame, as ten times the action, in the reward, and in the columns."""
    numbers = torch.arange(first, first + num_steps)
    is_last = numbers == first + num_steps - 1
    info = {"final_observation": frame(first + num_steps)} if end or trunc else {}
    extra = {"deter": numbers[:, None].float(), "index": numbers[:, None] % 7}
    obs = torch.stack([frame(int(each)) for each in numbers])
    flags = [(is_last & flag).byte() for flag in (end, trunc)]
    return Episode(obs, 10 * numbers, numbers + 0.5, *flags, info=info, extra=extra)


def frame(number: int) -> torch.Tensor:
    return torch.full((1, 2, 2), number, dtype=torch.uint8)


def make_replay(*episodes: Episode) -> Replay:
    replay = Replay(CPU, 20)
    replay.add_column("deter", (1,), torch.float32)
    replay.add_column("index", (1,), torch.uint8)
    for episode in episodes:
        replay.add_episode(episode)
    return replay


def make_windows(replay: Replay, num_envs: int = 1, length: int = LENGTH, **ranks: int) -> Windows:
    return Windows(replay, num_envs, length, np.random.default_rng(0), **ranks)


def test_rows_of_a_window() -> None:
    """Three steps that end, one step that is truncated, and four steps of an unfinished episode."""
    replay = make_replay(make_episode(10, 3, end=True), make_episode(20, 1, trunc=True), make_episode(30, 4))
    windows = make_windows(replay, length=10)
    rows = windows.gather(windows.draw(1), CPU)
    assert windows.num_windows == 1
    assert rows.obs[0, :, 0, 0, 0].tolist() == [10, 11, 12, 13, 20, 21, 30, 31, 32, 33]
    assert rows.rew[0].tolist() == [0, 10.5, 11.5, 12.5, 0, 20.5, 0, 30.5, 31.5, 32.5]
    assert rows.act[0].tolist() == [100, 110, 120, 0, 200, 0, 300, 310, 320, 330]
    assert rows.is_first[0].nonzero()[:, 0].tolist() == [0, 4, 6]
    assert rows.is_last[0].nonzero()[:, 0].tolist() == [3, 5]
    assert rows.is_terminal[0].nonzero()[:, 0].tolist() == [3]
    assert (rows.deter.tolist(), rows.index.tolist()) == ([[10]], [[3]])


def test_the_context_is_the_state_of_the_first_row() -> None:
    windows = make_windows(make_replay(make_episode(10, 9)))
    rows = windows.gather(Places(np.array([[0, 0, 0, 0]]), np.array([[4, 5, 6, 7]])), CPU)
    assert (rows.deter.tolist(), rows.index.tolist()) == ([[14]], [[0]])
    assert not rows.is_first.any()


def test_windows_are_drawn_uniformly() -> None:
    """13 windows, 2,600 draws: each count has a standard deviation of 14; out of 6 of them, once in a billion."""
    replay = make_replay(make_episode(0, 5, end=True), make_episode(10, 10))
    windows = make_windows(replay)
    assert windows.num_windows == 13
    windows.draw(len(windows.queued()))
    places = windows.draw(2600)
    starts, counts = np.unique(6 * places.episode_ids[:, 0] + places.steps[:, 0], return_counts=True)
    assert starts.tolist() == list(range(13))
    assert np.abs(counts - 200).max() < 84


def test_new_windows_are_drawn_first() -> None:
    """Windows 1 to 4 and 5 to 8 are complete when rows 4 and 8 arrive, each drawn once."""
    replay = make_replay(make_episode(0, 4))
    windows = make_windows(replay)
    assert windows.queued() == []
    replay.add_episode(make_episode(4, 5), 0)
    assert windows.queued() == [(0, 1), (0, 5)]
    assert windows.draw(1).steps.tolist() == [[1, 2, 3, 4]]
    assert windows.queued() == [(0, 5)]
    assert windows.draw(3).steps[0].tolist() == [5, 6, 7, 8]
    assert windows.queued() == []


def test_ranks_share_the_queue() -> None:
    replay = make_replay(make_episode(0, 30))
    queues = [make_windows(replay, rank=rank, world_size=2).queued() for rank in range(2)]
    assert sorted(queues[0] + queues[1]) == make_windows(replay).queued()
    assert [len(queue) for queue in queues] == [4, 3]


def test_environments_are_not_mixed() -> None:
    """Two games: steps 0, 1, … of the first, 100, 101, … of the second. The second one's first game has two steps."""
    replay = make_replay()
    first, second = replay.add_episode(make_episode(0, 1)), replay.add_episode(make_episode(100, 1))
    incrementally = make_windows(replay, num_envs=2)
    replay.add_episode(make_episode(101, 1, end=True), second)
    replay.add_episode(make_episode(1, 1), first)
    third = replay.add_episode(make_episode(110, 1))
    replay.add_episode(make_episode(2, 8), first)
    incrementally.queued()
    replay.add_episode(make_episode(111, 3), third)
    for windows in (incrementally, make_windows(replay, num_envs=2)):
        assert windows.num_windows == (10 - 3) + (2 + 1 + 4 - 3)
        rows = windows.gather(windows.draw(200), CPU)
        numbers = rows.obs[:, :, 0, 0, 0].long()
        seen = set(map(tuple, numbers.tolist()))
        assert seen == {tuple(range(start, start + 4)) for start in range(7)} | {
            (100, 101, 102, 110),
            (101, 102, 110, 111),
            (102, 110, 111, 112),
            (110, 111, 112, 113),
        }


def test_states_are_written_back_to_rows() -> None:
    """Where windows overlap, the later one counts, and new rows do not shift them; final rows keep no state."""
    replay = make_replay(make_episode(10, 3, end=True), make_episode(20, 4))
    windows = make_windows(replay)
    places = Places(np.array([[0, 0, 0, 0], [0, 0, 1, 1]]), np.array([[0, 1, 2, 3], [2, 3, 0, 1]]))
    replay.add_episode(make_episode(24, 1), 1)
    deter = torch.tensor([[51.0, 52.0, 53.0], [61.0, 62.0, 63.0]])[..., None]
    windows.write(places, deter, deter.long() - 50)
    columns = replay.state_dict()
    assert columns["deter"][:, 0].tolist() == [10, 51, 52, 62, 63, 22, 23, 24]
    assert columns["index"][:, 0].tolist() == [3, 1, 2, 12, 13, 1, 2, 3]
    overlapping = Places(np.array([[0, 1, 1, 1], [1, 1, 1, 1]]), np.array([[3, 0, 1, 2], [0, 1, 2, 3]]))
    windows.write(overlapping, deter, deter.long() - 50)
    assert replay.state_dict()["deter"][:, 0].tolist() == [10, 51, 52, 51, 61, 62, 63, 24]


def test_draws_resume_exactly() -> None:
    replay = make_replay(make_episode(0, 30))
    windows, other = make_windows(replay), make_windows(replay)
    windows.draw(5)
    state = windows.state_dict()
    expected = windows.draw(10)
    other.load_state_dict(state)
    assert np.array_equal(other.draw(10).steps, expected.steps)


@pytest.mark.parametrize("is_over", [True, False])
def test_the_replay_knows_which_episodes_are_over(is_over: bool) -> None:
    replay = make_replay(make_episode(0, 3, trunc=is_over), make_episode(5, 2))
    assert replay.is_over.tolist() == [is_over, False]
