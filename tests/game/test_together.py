"""Players in worlds of DreamerV3: each alone, and all of them as one batch."""

import pytest
import torch

import runs
from algorithms import read_settings
from algorithms.base import Surroundings
from algorithms.dreamer import DEFINITION
from algorithms.dreamer.algorithm import Dreamer
from data import Actions, Dataset, Episode, Spaces
from game.inputs import Press, Turn
from game.keys import ActionKeys
from game.moment import Place
from game.play_env import PlayEnv
from game.starts import DatasetStarts
from game.together import take_turns
from game.view import View
from game_runs import CPU
from run.ranks import Ranks
from small_dreamer import SMALL
from training_helpers import compose

ACTIONS = ("NOOP", "UP", "RIGHT", "LEFT", "DOWN")
TICKS, HORIZONS = 16, (4, 7, 50)


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> DatasetStarts:
    torch.manual_seed(0)
    dataset = Dataset(tmp_path_factory.mktemp("starts") / "test")
    for _ in range(3):
        obs, flags = torch.randint(256, (9, 3, 16, 16), dtype=torch.uint8), torch.zeros(9, dtype=torch.uint8)
        dataset.add_episode(Episode(obs, torch.randint(5, (9,)), flags.float(), flags, flags))
    return DatasetStarts(dataset, CPU)


@pytest.fixture(scope="module")
def dreamer(starts: DatasetStarts) -> Dreamer:
    """With random weights that are not zero in any layer."""
    settings = read_settings(compose(game=runs.CHASE, small=SMALL))[1]
    spaces = Spaces((3, 16, 16), Actions("numbered", len(ACTIONS)))
    dreamer = DEFINITION.make(settings, Surroundings(spaces, Ranks(0, 1, CPU), torch.float32, draw_starts=starts.draw))
    for each in dreamer.agent.parameters():
        each.data.add_(0.1 * torch.randn_like(each))
    return dreamer


def make_players(dreamer: Dreamer, starts: DatasetStarts) -> list[PlayEnv]:
    players = []
    for seed, horizon in enumerate(HORIZONS):
        world = dreamer.world(1)
        world.horizon = horizon
        keys = ActionKeys(ACTIONS)
        players.append(PlayEnv([Place("wm", "world model", world)], dreamer.policy, keys, starts=starts, seed=seed))
    return players


def turn_at(tick: int, index: int) -> Turn:
    """Each player starts again at another tick."""
    return Turn((Press("return"),) if tick == 5 + 3 * index else ())


def look(player: PlayEnv, view: View | BaseException) -> tuple[object, ...]:
    assert isinstance(view, View), view
    now = player.now
    return now.step, now.act, now.end, now.trunc, now.rew, now.going_on or 0.0, now.value, view.frame


def test_players_see_the_same_alone_and_together(dreamer: Dreamer, starts: DatasetStarts) -> None:
    alone = []
    for index, player in enumerate(make_players(dreamer, starts)):
        alone.append([look(player, *take_turns([(player, turn_at(tick, index))])) for tick in range(TICKS)])
    together, sizes = make_players(dreamer, starts), []
    hook = dreamer.agent.decoder.register_forward_hook(lambda module, inputs, frames: sizes.append(len(frames)))
    for tick in range(TICKS):
        views = take_turns([(player, turn_at(tick, index)) for index, player in enumerate(together)])
        for index, (player, view) in enumerate(zip(together, views, strict=True)):
            *values, frame = look(player, view)
            *expected, expected_frame = alone[index][tick]
            assert values[:4] == expected[:4]
            assert values[4:] == pytest.approx(expected[4:], rel=1e-4, abs=1e-4)
            assert (frame.int() - expected_frame.int()).abs().max() <= 1
    hook.remove()
    # A player that starts the next episode is not stepped in that tick.
    assert max(sizes) == len(HORIZONS)
    assert len(sizes) <= TICKS


def test_only_worlds_of_the_same_networks_are_joined(dreamer: Dreamer, starts: DatasetStarts) -> None:
    settings = read_settings(compose(game=runs.CHASE, small=SMALL))[1]
    spaces = Spaces((3, 16, 16), Actions("numbered", len(ACTIONS)))
    other = DEFINITION.make(settings, Surroundings(spaces, Ranks(0, 1, CPU), torch.float32, draw_starts=starts.draw))
    assert dreamer.world(1).can_join(dreamer.world(1))
    assert not dreamer.world(1).can_join(other.world(1))
    assert not dreamer.world(1).can_join(object())
