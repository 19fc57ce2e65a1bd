"""Rollouts and collection in an environment whose results are known."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from algorithms.diamond.policy import ActorCriticPolicy
from data import Episode, Start, Step, to_unit_range
from models.actor_critic import ActorCritic, ActorCriticConfig, ActorCriticLossConfig
from models.blocks import LstmState
from rl.collector import Collector
from rl.exploration import Exploration
from rl.policy import Greedy, RandomPolicy
from rl.results import Results
from rl.returns import lambda_returns
from rl.rollout import Rollouts

SIZE = 4


class Counting:
    """Environment i shows how often it was stepped, and ends every `periods[i]` steps; the reward is the action."""

    num_actions = 3

    def __init__(self, periods: tuple[int, ...], history: int = 0, truncates: bool = False) -> None:
        self.periods = torch.tensor(periods)
        self.num_envs = len(periods)
        self.history = history
        self.truncates = truncates
        self.count = torch.zeros(self.num_envs, dtype=torch.int64)
        self.age = torch.zeros_like(self.count)

    def prepare(self, num_steps: int) -> None: ...

    def reset(self) -> Start:
        self.age = torch.zeros_like(self.age)
        return Start(self.draw(self.count), self.draw_history())

    def step(self, act: Tensor) -> Step:
        self.count, self.age = self.count + 1, self.age + 1
        dead = self.age == self.periods
        final_obs = self.draw(self.count)
        self.age = torch.where(dead, 0, self.age)
        obs = self.draw(self.count + 100 * dead)
        end, trunc = (torch.zeros_like(dead), dead) if self.truncates else (dead, torch.zeros_like(dead))
        return Step(obs, act.float(), end, trunc, final_obs, self.draw_history())

    def send(self, act: Tensor) -> None:
        self.sent = act

    def receive(self) -> Step:
        return self.step(self.sent)

    def draw(self, value: Tensor) -> Tensor:
        return value.byte()[:, None, None, None].expand(-1, 3, SIZE, SIZE).contiguous()

    def draw_history(self) -> Tensor | None:
        if self.history == 0:
            return None
        return torch.stack([self.draw(self.count + 200 + index) for index in range(self.history)], dim=1)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "age": self.age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.age = state["count"], state["age"]


@pytest.fixture
def policy() -> ActorCritic:
    policy = ActorCritic(ActorCriticConfig(8, 3, SIZE, (8,), (1,), Counting.num_actions))
    for parameter in policy.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return policy


@pytest.mark.parametrize("truncates", [False, True])
@pytest.mark.parametrize("history", [0, 2])
def test_rollout_is_what_a_plain_loop_sees(policy: ActorCritic, history: int, truncates: bool) -> None:
    """Returns, loss and gradient over consecutive rollouts, against acting step by step with autograd."""
    config = ActorCriticLossConfig(backup_every=5, gamma=0.9, lambda_=0.8)
    periods = (3, 4, 2, 100)
    rollouts = Rollouts(Counting(periods, history, truncates), policy, config)
    collected = [rollouts.collect()[0] for _ in range(3)]

    env = Counting(periods, history, truncates)
    start = env.reset()
    obs, memory = start.obs, watch(policy, start.history, env.num_envs)
    for rollout in collected:
        memory = tuple(part.detach() for part in memory)
        assert torch.allclose(rollout.hx_cx[0], memory[0], atol=1e-6)
        rows = []
        for seen, act in zip(rollout.obs, rollout.act, strict=True):
            assert torch.equal(seen, obs)
            logits, value, after = policy.predict(obs, memory)
            step = env.step(act)
            fresh = watch(policy, step.history, env.num_envs)
            final_value = policy.predict(step.final_obs, after)[1]
            rows.append((logits, value, final_value, step.rew, step.end, step.trunc))
            memory = tuple(torch.where(step.dead[:, None], new, old) for new, old in zip(fresh, after, strict=True))
            obs = step.obs
        logits, values, final_values, rew, end, trunc = [torch.stack(column) for column in zip(*rows, strict=True)]
        following = torch.cat((values[1:], policy.predict(obs, memory)[1][None]))
        bootstrap = torch.where(end | trunc, final_values, following).detach()
        returns = lambda_returns(rew, end, trunc, bootstrap, config.gamma, config.lambda_)
        assert torch.allclose(rollout.returns, returns, atol=1e-6)
        assert torch.equal(rollout.dead, end | trunc)
        loss, expected = policy(rollout)[0], plain_loss(logits, values, rollout.act, returns, config)
        assert torch.allclose(loss, expected, atol=1e-6)
        ours, theirs = [torch.autograd.grad(each, list(policy.parameters())) for each in (loss, expected)]
        for gradient, wanted in zip(ours, theirs, strict=True):
            assert (gradient - wanted).norm() < 1e-4 * wanted.norm()


def watch(policy: ActorCritic, history: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    memory = policy.initial_memory(count)
    for frame in [] if history is None else history.unbind(1):
        memory = policy.predict(frame, memory)[2]
    return memory


def plain_loss(logits: Tensor, values: Tensor, act: Tensor, returns: Tensor, config: ActorCriticLossConfig) -> Tensor:
    distribution = torch.distributions.Categorical(logits=logits)
    loss_actions = -(distribution.log_prob(act) * (returns - values).detach()).mean()
    loss_values = torch.nn.functional.mse_loss(values, returns)
    return (
        loss_actions
        + config.weight_value_loss * loss_values
        - config.weight_entropy_loss * distribution.entropy().mean()
    )


def test_padding_is_grey_in_the_stored_history(policy: ActorCritic) -> None:
    """An imagined environment's history is in [-1, 1], where padding is zero; no uint8 value is converted to zero."""

    class Padded(Counting):
        def draw_history(self) -> Tensor:
            history = to_unit_range(super().draw_history())
            history[::2, 0] = 0
            return history

    rollout, _ = Rollouts(Padded((3, 4, 2), history=2), policy, ActorCriticLossConfig(backup_every=5)).collect()
    assert rollout.history.dtype == torch.uint8
    assert rollout.mask_padding.tolist() == [[[False, True], [True, True], [False, True]]] * 5
    plain = Padded((3, 4, 2), history=2)
    plain.reset()
    for act, history, mask in zip(rollout.act, rollout.history, rollout.mask_padding, strict=True):
        seen = plain.step(act).history
        assert torch.equal(to_unit_range(history) * mask[..., None, None, None], seen)


def test_restored_rollouts_continue_the_same(policy: ActorCritic) -> None:
    config = ActorCriticLossConfig(backup_every=5)
    rollouts = Rollouts(Counting((3, 4), history=1), policy, config)
    rollouts.collect()
    state, random_state = rollouts.state_dict(), torch.get_rng_state()
    theirs, _ = rollouts.collect()
    again = Rollouts(Counting((3, 4), history=1), policy, config)
    again.load_state_dict(state)
    torch.set_rng_state(random_state)
    ours, _ = again.collect()
    for name in ("obs", "act", "returns", "dead", "history"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))


def test_lambda_returns_by_hand() -> None:
    rew = torch.tensor([[5.0], [0.0], [-2.0]])
    none = torch.zeros(3, 1, dtype=torch.bool)
    values = torch.tensor([[1.0], [2.0], [3.0]])
    gamma, lambda_ = 0.5, 0.5
    last = -1 + gamma * ((1 - lambda_) * 3 + lambda_ * 3)
    middle = 0 + gamma * ((1 - lambda_) * 2 + lambda_ * last)
    first = 1 + gamma * ((1 - lambda_) * 1 + lambda_ * middle)
    ours = lambda_returns(rew, none, none, values, gamma, lambda_)
    assert ours.flatten().tolist() == pytest.approx([first, middle, last])
    end = torch.tensor([[False], [True], [False]])
    assert lambda_returns(rew, end, none, values, gamma, lambda_)[1] == 0
    assert lambda_returns(rew, none, end, values, gamma, lambda_)[1] == gamma * 2


class Shelf:
    """Stores episodes in memory."""

    def __init__(self) -> None:
        self.episodes: list[Episode] = []

    def __call__(self, episode: Episode, episode_id: int | None = None) -> int:
        if episode_id is None:
            self.episodes.append(episode)
            return len(self.episodes) - 1
        self.episodes[episode_id] = Episode.joined([self.episodes[episode_id], episode])
        return episode_id


def test_collected_episodes_hold_what_happened(policy: ActorCritic) -> None:
    shelf = Shelf()
    collector = Collector(Counting((4, 7)), ActorCriticPolicy(policy), shelf, epsilon=0.0)
    collector.begin()
    for _ in range(3):
        for _ in range(5):
            collector.step()
        collector.store_unfinished()
    assert collector.num_steps == 30
    assert sorted(len(each) for each in shelf.episodes) == [1, 3, 4, 4, 4, 7, 7]
    for episode in shelf.episodes:
        shown = episode.obs[:, 0, 0, 0].int() % 100
        assert (shown.diff() == 1).all()
        assert torch.equal(episode.rew, episode.act.float())
        assert episode.end.tolist() == [0] * (len(episode) - 1) + [int(episode.is_over)]
        if episode.is_over:
            assert int(episode.info["final_observation"][0, 0, 0]) == int(shown[-1]) + 1
    assert sum(collector.returns) == sum(each.total_reward for each in shelf.episodes if each.is_over)
    assert sorted(collector.lengths) == [4, 4, 4, 7, 7]


def test_each_environment_plays_its_share(policy: ActorCritic) -> None:
    shelf = Shelf()
    collector = Collector(Counting((2, 50, 3)), ActorCriticPolicy(policy), shelf, epsilon=0.0)
    collector.begin(num_episodes=4)
    while not collector.is_complete:
        collector.step()
    # Without shares the environment of short episodes would play them all.
    assert sorted(collector.lengths) == [2, 2, 3, 50]
    assert len(shelf.episodes) == 4
    collector.begin(num_episodes=2)
    assert not collector.is_complete
    while not collector.is_complete:
        collector.step()
    assert sorted(collector.lengths) == [2, 50]


def test_episodes_without_their_frames(policy: ActorCritic) -> None:
    collector = Collector(Counting((2, 50, 3)), ActorCriticPolicy(policy), None, epsilon=0.0)
    collector.begin(num_episodes=4)
    played = list(collector.rest())
    # Each environment plays to its own end, and the longest one decides how many steps are taken.
    assert played == [0, 1, 2, 3, *[3] * 45, 4]
    assert sorted(collector.results.lengths) == [2, 2, 3, 50]
    assert collector.num_steps == 57


def test_what_is_logged_of_episodes() -> None:
    metrics = Results((1.0, 2.0, 6.0), (10, 20, 60)).metrics()
    assert metrics == {
        "num_episodes": 3,
        "return_mean": 3.0,
        "return_std": pytest.approx((14 / 3) ** 0.5),
        "return_min": 1.0,
        "return_max": 6.0,
        "length_mean": 30.0,
    }
    assert Results((), ()).metrics() == {}


@torch.no_grad()
def test_the_greedy_policy_takes_the_most_likely_action(policy: ActorCritic) -> None:
    obs, never = torch.randint(256, (50, 3, SIZE, SIZE), dtype=torch.uint8), torch.zeros(50, dtype=torch.bool)
    policy.actor_linear.weight.data.normal_()
    greedy = Greedy(ActorCriticPolicy(policy))
    memory = ActorCriticPolicy(policy).initial(50)
    for _ in range(3):
        logits, _, memory_of_network = policy.predict(obs, memory)
        act, memory = greedy.act(obs, memory, never)
        assert torch.equal(act, logits.argmax(dim=-1))
        assert act.unique().numel() > 1
        for ours, theirs in zip(memory, memory_of_network, strict=True):
            assert torch.equal(ours, theirs)


def test_the_random_policy_is_uniform() -> None:
    count = 3000
    acts, _ = RandomPolicy(3).act(torch.zeros(count, 3, 2, 2), (), torch.zeros(count, dtype=torch.bool))
    # 6 standard deviations: fails by chance in fewer than one of 10^7 tests.
    assert ((torch.bincount(acts, minlength=3) - count / 3).abs() < 6 * (count * 2 / 9) ** 0.5).all()


def test_exploration_is_uniform(policy: ActorCritic) -> None:
    policy.actor_linear.weight.data.zero_()
    policy.actor_linear.bias.data = torch.tensor([50.0, 0.0, 0.0])
    shelf, epsilon, count = Shelf(), 0.3, 3000
    collector = Collector(Counting((10,) * 10), ActorCriticPolicy(policy), shelf, epsilon)
    collector.begin()
    for _ in range(count // 10):
        collector.step()
    acts = torch.cat([episode.act for episode in shelf.episodes])
    expected = count * torch.tensor([1 - epsilon * 2 / 3, epsilon / 3, epsilon / 3])
    # 6 standard deviations: fails by chance in fewer than one of 10^7 tests.
    assert ((torch.bincount(acts, minlength=3) - expected).abs() < 6 * expected.sqrt()).all()


def test_episodes_can_be_played_at_random(policy: ActorCritic) -> None:
    policy.actor_linear.weight.data.zero_()
    policy.actor_linear.bias.data = torch.tensor([50.0, 0.0, 0.0])
    shelf, count = Shelf(), 300
    collector = Collector(Counting((10,) * 10), ActorCriticPolicy(policy), shelf, epsilon=0.0)
    collector.begin(count, at_random=True)
    assert list(collector.rest())[-1] == count
    acts = torch.cat([episode.act for episode in shelf.episodes])
    # 6 standard deviations: fails by chance in fewer than one of 10^7 tests.
    assert ((torch.bincount(acts, minlength=3) - 1000).abs() < 6 * (3000 * 2 / 9) ** 0.5).all()
    collector.begin(2)
    assert list(collector.rest())[-1] == 2
    assert not torch.cat([episode.act for episode in shelf.episodes[count:]]).any()


def test_random_actions_are_repeated_as_often_as_a_zeta_distribution_says() -> None:
    count, zeta = 20_000, 2.0
    exploration = Exploration(1.0, zeta, count, num_actions=1000)
    acts, never = [], torch.zeros(count, dtype=torch.bool)
    for _ in range(4):
        acts.append(exploration.explore(torch.zeros(count, dtype=torch.int64), never))
    shares = 1 / torch.arange(1, 10_001, dtype=torch.float64) ** zeta
    shares /= shares.sum()
    repeated = torch.stack([before == after for before, after in itertools.pairwise(acts)])
    # Two draws are equal by chance in one of 1,000.
    for steps in (1, 2, 3):
        longer = 1 - shares[:steps].sum()
        seen, chance = repeated[:steps].all(dim=0).double().mean(), longer + (1 - longer) / 1000
        # 6 standard deviations: fails by chance in fewer than one of 10^7 tests; draws in between add little.
        assert abs(seen - chance) < 6 * (chance * (1 - chance) / count) ** 0.5 + 1e-3


def test_the_end_of_an_episode_ends_a_repetition() -> None:
    exploration = Exploration(0.5, 1.01, num_envs=1000, num_actions=1000)
    act, never = torch.full((1000,), -1), torch.zeros(1000, dtype=torch.bool)
    explored = exploration.explore(act, never)
    assert 300 < (explored >= 0).sum() < 700
    later = exploration.explore(act, ~never)
    assert (later == explored)[explored >= 0].float().mean() <= 0.01


class Watched(ActorCriticPolicy):
    """Records `is_first`."""

    def __init__(self, actor_critic: ActorCritic) -> None:
        super().__init__(actor_critic)
        self.starts: list[list[bool]] = []

    def act(self, obs: Tensor, memory: LstmState, is_first: Tensor) -> tuple[Tensor, LstmState]:
        self.starts.append(is_first.tolist())
        return super().act(obs, memory, is_first)


def test_the_policy_gets_the_starts_of_episodes(policy: ActorCritic) -> None:
    watched = Watched(policy)
    collector = Collector(Counting((3, 5)), watched, Shelf(), epsilon=0.0)
    collector.begin()
    for _ in range(10):
        collector.step()
    assert watched.starts == [[step % 3 == 0, step % 5 == 0] for step in range(10)]


@torch.no_grad()
def test_the_memory_is_ignored_at_a_start(policy: ActorCritic) -> None:
    obs, acting = torch.randint(256, (2, 3, SIZE, SIZE), dtype=torch.uint8), ActorCriticPolicy(policy)
    never, memory = torch.zeros(2, dtype=torch.bool), acting.initial(2)
    for _ in range(3):
        _, memory = acting.act(obs, memory, never)
    _, after = acting.act(obs, memory, torch.tensor([True, False]))
    _, fresh = acting.act(obs, acting.initial(2), never)
    for ours, new in zip(after, fresh, strict=True):
        assert torch.equal(ours[0], new[0])
        assert not torch.equal(ours[1], new[1])
    logits, value, _ = policy.predict(obs, acting.initial(2))
    probs, thought = acting.thoughts(fresh)
    torch.testing.assert_close(probs, logits.softmax(-1))
    torch.testing.assert_close(thought, value)


def test_a_restored_collector_continues_the_same(policy: ActorCritic) -> None:
    shelf = Shelf()
    collector = Collector(Counting((4, 7)), ActorCriticPolicy(policy), shelf, epsilon=0.2, zeta=1.1)
    collector.begin()
    for _ in range(6):
        collector.step()
    collector.store_unfinished()
    collector.step()
    state, random_state, kept = collector.state_dict(), torch.get_rng_state(), list(shelf.episodes)
    for _ in range(9):
        collector.step()
    other = Shelf()
    other.episodes = kept
    again = Collector(Counting((4, 7)), ActorCriticPolicy(policy), other, epsilon=0.2, zeta=1.1)
    again.load_state_dict(state, torch.device("cpu"))
    torch.set_rng_state(random_state)
    for _ in range(9):
        again.step()
    assert again.returns == collector.returns
    for ours, theirs in zip(other.episodes, shelf.episodes, strict=True):
        assert torch.equal(ours.obs, theirs.obs)
        assert torch.equal(ours.act, theirs.act)
