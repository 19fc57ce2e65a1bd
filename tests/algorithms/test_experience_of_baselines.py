"""What the baselines learn from, against numbers computed by hand: frames, returns of n steps, λ-returns."""

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from algorithms.model_free.draws import TransitionDraws
from algorithms.model_free.frames import FrameStack
from algorithms.model_free.ppo.rollouts import Rollout, RolloutReader
from data import Episode, Replay, Segments, to_unit_range
from models.model_free import Transitions

CPU = torch.device("cpu")
SHAPE = (1, 2, 2)
GAMMA, LAMBDA = 0.5, 0.5


def episode(first: int, rewards: list[float], over: str = "", **extra: list[float]) -> Episode:
    """Frames count from `first` on; an episode that is over has one frame more. The action is the frame's number."""
    count = len(rewards)
    numbers = torch.arange(first, first + count + 1)
    frames = numbers.byte()[:, None, None, None].expand(-1, *SHAPE)
    end, trunc = torch.zeros(2, count, dtype=torch.uint8)
    end[-1], trunc[-1] = over == "end", over == "trunc"
    info = {"final_observation": frames[-1]} if over else {}
    columns = {name: torch.tensor(values) for name, values in extra.items()}
    return Episode(frames[:-1], numbers[:-1], torch.tensor(rewards), end, trunc, info, columns)


def numbers(frames: Tensor) -> list[list[int]]:
    """The numbers of frames (b, num_frames, c, h, w)."""
    return frames[:, :, 0, 0, 0].tolist()


def fill(*episodes: Episode, columns: tuple[str, ...] = ()) -> Replay:
    replay = Replay(CPU)
    for name in columns:
        replay.add_column(name, (), torch.float32)
    for each in episodes:
        replay.add_episode(each)
    return replay


def all_transitions(replay: Replay, num_frames: int, num_steps: int, ids: list[int], steps: list[int]) -> Transitions:
    draws = TransitionDraws(replay, num_frames, num_steps, GAMMA, np.random.default_rng(0))
    return draws.gather(Segments(np.array(ids), np.array(steps), 1), CPU)


def test_returns_of_three_steps_by_hand() -> None:
    """Rewards count by their signs, and nothing counts beyond an end. After a truncation, the final frame does."""
    replay = fill(
        episode(10, [1.0, 0.0, -7.0, 2.0], "end"), episode(20, [0.0, 3.0], "trunc"), episode(30, [1.0, 1.0, 0.0, 5.0])
    )
    ids, steps = [0, 0, 0, 0, 1, 1, 2], [0, 1, 2, 3, 0, 1, 0]
    batch = all_transitions(replay, 2, 3, ids, steps)
    assert batch.rew.tolist() == [1 - 0.25, -0.5 + 0.25, -1 + 0.5, 1, 0.5, 1, 1 + 0.5]
    assert batch.discount.tolist() == [0.125, 0, 0, 0, 0.25, 0.5, 0.125]
    assert batch.act.tolist() == [10, 11, 12, 13, 20, 21, 30]
    assert numbers(batch.frames) == [[10, 10], [10, 11], [11, 12], [12, 13], [20, 20], [20, 21], [30, 30]]
    known = [place for place, discount in enumerate(batch.discount.tolist()) if discount > 0]
    assert [numbers(batch.next_frames)[place] for place in known] == [[12, 13], [21, 22], [21, 22], [32, 33]]


def test_returns_of_one_step_by_hand() -> None:
    replay = fill(episode(10, [4.0, 0.0], "end"), episode(20, [-1.0, 0.0]))
    batch = all_transitions(replay, 3, 1, [0, 0, 1], [0, 1, 0])
    assert batch.rew.tolist() == [1, 0, -1]
    assert batch.discount.tolist() == [0.5, 0, 0.5]
    assert numbers(batch.frames) == [[10, 10, 10], [10, 10, 11], [20, 20, 20]]
    assert numbers(batch.next_frames)[0] == [10, 10, 11]
    assert numbers(batch.next_frames)[2] == [20, 20, 21]


def test_steps_are_drawn_equally_often_where_it_is_known_what_followed() -> None:
    replay = fill(episode(10, [0.0] * 3, "end"), episode(20, [0.0] * 5), episode(30, [0.0] * 2), episode(40, [0.0]))
    draws = TransitionDraws(replay, 1, 2, GAMMA, np.random.default_rng(0))
    acts, counts = draws.draw(6000, CPU).act.unique(return_counts=True)
    assert acts.tolist() == [10, 11, 12, 20, 21, 22]
    assert (counts - 1000).abs().max() < 150


def test_draws_continue_where_they_were() -> None:
    replay = fill(episode(10, [0.0] * 50, "end"))
    first, second = (TransitionDraws(replay, 1, 2, GAMMA, np.random.default_rng(seed)) for seed in (0, 1))
    first.draw(5, CPU)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.draw(5, CPU).act, second.draw(5, CPU).act)


def test_the_policy_sees_the_frames_that_it_is_trained_on() -> None:
    replay = fill(episode(10, [0.0] * 4, "end"), episode(20, [0.0] * 3, "end"))
    trained = all_transitions(replay, 3, 1, [0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 0, 1])
    stack, seen = FrameStack(3, SHAPE, CPU), []
    frames = stack.initial(1)
    for number in (10, 11, 12, 13, 20, 21):
        obs = torch.full((1, *SHAPE), number, dtype=torch.uint8)
        is_first = torch.tensor([number in (10, 20)])
        frames = stack.push(frames, obs if number % 2 else to_unit_range(obs), is_first)
        seen += numbers(frames)
    assert seen == numbers(trained.frames)


def value_of_frames(frames: Tensor) -> Tensor:
    """The number of the newest frame, in hundreds."""
    return frames[:, -1, 0, 0, 0].float() / 100


def make_reader(replay: Replay) -> RolloutReader:
    return RolloutReader(replay, 2, GAMMA, LAMBDA, value_of_frames)


COLUMNS = ("value", "log_prob")


def test_generalised_advantages_by_hand() -> None:
    """δ = r + γV' - V, A = δ + γλA'. With γ = λ = 1/2, γλ is 1/4."""
    replay = fill(
        episode(10, [0.0, 9.0], "end", value=[0.2, 0.4], log_prob=[-1.0, -2.0]),
        episode(20, [-3.0, 0.0], "trunc", value=[0.1, 0.3], log_prob=[-3.0, -4.0]),
        episode(30, [1.0, 0.0, 1.0], value=[0.5, 0.6, 0.8], log_prob=[-5.0, -6.0, -7.0]),
        columns=COLUMNS,
    )
    rollout = make_reader(replay).read()
    assert rollout.act.tolist() == [10, 11, 20, 21, 30, 31]
    assert rollout.log_prob.tolist() == [-1, -2, -3, -4, -5, -6]
    ended = 1 - 0.4
    # The frame after the truncation is number 22.
    truncated = 0 + 0.5 * 0.22 - 0.3
    unfinished = 0 + 0.5 * 0.8 - 0.6
    wanted = [
        0 + 0.5 * 0.4 - 0.2 + 0.25 * ended,
        ended,
        -1 + 0.5 * 0.3 - 0.1 + 0.25 * truncated,
        truncated,
        1 + 0.5 * 0.6 - 0.5 + 0.25 * unfinished,
        unfinished,
    ]
    torch.testing.assert_close(rollout.returns - rollout.value, torch.tensor(wanted))


def test_every_step_is_in_one_rollout() -> None:
    """The newest step of an unfinished episode waits for the next rollout."""
    replay = fill(episode(10, [0.0] * 3, value=[0.0] * 3, log_prob=[0.0] * 3), columns=COLUMNS)
    reader = make_reader(replay)
    assert reader.read().act.tolist() == [10, 11]
    assert len(reader.read()) == 0
    replay.add_episode(episode(13, [0.0] * 2, "end", value=[0.0] * 2, log_prob=[0.0] * 2), episode_id=0)
    replay.add_episode(episode(20, [0.0] * 2, value=[0.0] * 2, log_prob=[0.0] * 2))
    restored = make_reader(replay)
    restored.load_state_dict(reader.state_dict())
    for each in (reader, restored):
        assert each.read().act.tolist() == [12, 13, 14, 20]


def test_minibatches_hold_their_steps() -> None:
    replay = fill(episode(10, [1.0, 0.0, 0.0], "end", value=[0.2] * 3, log_prob=[-1.0, -2.0, -3.0]), columns=COLUMNS)
    rollout = make_reader(replay).read()
    for each in (rollout, Rollout.of(rollout.state_dict())):
        batch = each.minibatch(np.array([2, 0]), replay, 2, CPU)
        assert numbers(batch.frames) == [[11, 12], [10, 10]]
        assert batch.act.tolist() == [12, 10]
        assert batch.log_prob.tolist() == [-3, -1]
        torch.testing.assert_close(batch.advantage, rollout.returns[[2, 0]] - 0.2)


def test_advantages_are_those_of_torchrl() -> None:
    """On episodes that end, are truncated, or go on; TorchRL is told the values of what follows."""
    functional = pytest.importorskip("torchrl.objectives.value.functional")
    for over in ("end", "trunc", ""):
        count = 9
        rewards, values = torch.randn(count), torch.rand(count)
        columns = {"value": values.tolist(), "log_prob": [0.0] * count}
        replay = fill(episode(10, rewards.tolist(), over, **columns), columns=COLUMNS)
        rollout = make_reader(replay).read()
        n = len(rollout)
        assert n == count - (over == "")
        last = value_of_frames(torch.full((1, 2, *SHAPE), 10 + count)) if over else values[-1:]
        following = torch.cat((values[1:n], last))
        done = torch.zeros(n, 1, dtype=torch.bool)
        done[-1] = over != ""
        terminated = done & (over == "end")
        given = (values[:n, None], following[:, None], rewards[:n, None].sign(), done, terminated)
        advantages, _ = functional.generalized_advantage_estimate(GAMMA, LAMBDA, *given)
        torch.testing.assert_close(rollout.returns - rollout.value, advantages[:, 0])


@pytest.mark.slow
def test_a_hundred_thousand_steps_take_less_than_one_and_a_half_gigabytes() -> None:
    """Frames of 64×64 in colour, with an episode for every 50 steps, as where a life is one."""
    process = psutil.Process()
    before = process.memory_info().rss
    replay, steps = Replay(CPU, 100_000), torch.zeros(50)
    frames = torch.randint(0, 256, (51, 3, 64, 64), dtype=torch.uint8)
    flags = steps.byte()
    last = flags.index_fill(0, torch.tensor([49]), 1)
    each = Episode(frames[:50], steps.long(), steps, last, flags, {"final_observation": frames[50]})
    for _ in range(2000):
        replay.add_episode(each)
    batch = TransitionDraws(replay, 4, 3, GAMMA, np.random.default_rng(0)).draw(32, CPU)
    taken = process.memory_info().rss - before
    print(f"{taken / 1e9:.2f} GB")
    assert batch.frames.shape == (32, 4, 3, 64, 64)
    assert taken < 1.5e9
