"""Whole episodes of a real game, played by an agent or at random: the same numbers at every call."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from envs import AtariConfig, EnvConfig, RealEnv, RecordedGameConfig, make_env
from envs.trust import check_env
from errors import UserError
from rl.collector import Collector, Store
from rl.policy import Greedy, RandomPolicy, Thinker
from rl.results import Results
from run.device import choose_precision
from run.random_state import seed_everything
from trained.opening import find_spaces, open_agent
from trained.source import Source

CPU = torch.device("cpu")
SEEDS_OF_EVALUATION = 2**31
"""Added to the seed: no environment of training has such a seed."""


@dataclass(frozen=True)
class Playing:
    """How episodes are played: their number, in which of a run's environments, `test` or `train`, and how many of these
    at once; the seed; whether the agent takes its most likely actions; the device and precision of its networks."""

    episodes: int
    env: str
    num_envs: int
    seed: int
    is_greedy: bool
    device: torch.device
    precision: str

    def game(self, source: Source) -> EnvConfig:
        return getattr(source.config.env, self.env)

    def epsilon(self, source: Source) -> float:
        """The probability of a random action: as in the run's own test episodes, and 0 for the most likely actions."""
        return 0.0 if self.is_greedy else source.config.collection.test.epsilon


Watch = Callable[[Collector, str], None]
"""May step a collector that has begun, under a title, and show what happens; may stop before its episodes are over."""


def play_agent(source: Source, playing: Playing, store: Store | None = None, watch: Watch | None = None) -> Results:
    """Let an agent play; `store` gets the episodes with their frames.

    Raises UserError if the agent has no policy, or if its game cannot be played here.
    """
    check_playable(source, playing)
    spaces, precision = find_spaces(source), choose_precision(playing.precision, playing.device)
    algorithm = open_agent(source, spaces, playing.device, precision, playing.seed)
    # Algorithms of cuDNN that are chosen by their speed do not give the same numbers every time.
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    policy, game, num_actions = algorithm.policy, playing.game(source), spaces.actions.size
    if policy is None:
        raise UserError(f"{source.folder} has an agent without a policy, which plays no episodes. {_MEASURE_THE_WORLD}")
    if playing.is_greedy and not isinstance(policy, Thinker):
        name = source.config.algorithm.name
        raise UserError(
            f"--policy greedy is not possible for {source.folder}: the policy of {name} does not show the "
            "probabilities of its actions. Use --policy sample."
        )
    with contextlib.closing(_open_game(source, playing)) as env:
        if env.num_actions != num_actions:
            raise UserError(f"{source.folder}: {game.id} has {env.num_actions} actions, but the agent {num_actions}.")
        acting = Greedy(policy) if playing.is_greedy else policy
        collector = Collector(env, acting, store, playing.epsilon(source), precision, playing.device)
        return play_episodes(collector, playing, f"{source.folder.name} · {source.version}", watch)


def play_at_random(source: Source, playing: Playing) -> Results:
    """Let the random policy play as many episodes of a source's game."""
    check_playable(source, playing)
    with contextlib.closing(_open_game(source, playing)) as env:
        return play_episodes(Collector(env, RandomPolicy(env.num_actions), None, epsilon=0.0), playing, "random")


def play_episodes(collector: Collector, playing: Playing, title: str, watch: Watch | None = None) -> Results:
    """Let a collector play whole episodes; `title` stands before the progress bar."""
    seed_everything(playing.seed)
    collector.begin(playing.episodes)
    if watch is not None:
        watch(collector, title)
    done = len(collector.returns)
    with tqdm(desc=title, total=playing.episodes, initial=done, unit="episode", leave=False, disable=None) as bar:
        for num_played in collector.rest():
            bar.set_postfix_str(f"{collector.num_steps} steps", refresh=False)
            bar.update(num_played - bar.n)
    return collector.results


def check_playable(source: Source, playing: Playing) -> None:
    """Raise UserError if a source's game exists only as recordings, or is in a module that is not trusted."""
    game = playing.game(source)
    if isinstance(game, RecordedGameConfig):
        raise UserError(
            f"{source.folder} was trained on recordings of {game.id}: there is no game to play. {_MEASURE_THE_WORLD}"
        )
    check_env(game, source.trusts)


def has_human_score(source: Source, playing: Playing) -> bool:
    """Whether returns can be compared with published scores: in Atari games, where an episode is a whole game."""
    game = playing.game(source)
    return isinstance(game, AtariConfig) and not game.done_on_life_loss


def _open_game(source: Source, playing: Playing) -> RealEnv:
    count, seed = min(playing.num_envs, playing.episodes), SEEDS_OF_EVALUATION + playing.seed
    return make_env(playing.game(source), count, seed, CPU)


_MEASURE_THE_WORLD = "Add --world to measure how well it imagines."
