"""What a player sees depends on its own seed and inputs only, whoever else plays."""

import pytest
import torch
from torch import Tensor

from game.build import PlayConfig, Stage, open_stage
from game.inputs import Press, SetController, Turn
from game.play_env import PlayEnv
from game.random_numbers import RandomNumbers, drawing_for
from game.together import take_turns
from game_runs import CPU
from models.losses import sample_categorical
from trained.source import Source

TICKS = 25
CLOSE = 2
"""Networks of a batch round in other ways: at most so many of 255 levels."""


def draw(rows: int) -> list[Tensor]:
    """Random tensors of the kinds that worlds and policies draw, with that many rows."""
    logits = torch.arange(5.0).expand(rows, 5)
    return [
        torch.randn(rows, 3, 16, 16),
        sample_categorical(logits),
        torch.rand_like(logits),
        torch.rand((rows, 2)),
        torch.randint(9, (rows,)),
        torch.empty(rows, 4).uniform_(),
        torch.multinomial(logits + 1, 3),
    ]


def test_each_row_of_a_batch_is_drawn_as_its_player_draws_it_alone() -> None:
    alone = [RandomNumbers(seed, CPU) for seed in range(3)]
    joined = [RandomNumbers(seed, CPU) for seed in range(3)]
    for turn in range(3):
        with drawing_for(joined):
            together = draw(3)
        for index, player in enumerate(alone):
            with player:
                rows = draw(1)
            assert all(torch.equal(part[index : index + 1], row) for part, row in zip(together, rows, strict=True))
        # A turn by itself changes nothing.
        with joined[turn]:
            single = torch.rand(2)
        with alone[turn], alone[turn]:
            assert torch.equal(torch.rand(2), single)


def test_the_default_generator_does_not_notice() -> None:
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    one, other = RandomNumbers(1, CPU), RandomNumbers(2, CPU)
    with one:
        torch.rand(3)
    with drawing_for((one, other)):
        torch.randn(2, 2)
    assert torch.equal(torch.rand(4), expected)


def test_a_batch_has_a_row_for_each_player() -> None:
    players = RandomNumbers(1, CPU), RandomNumbers(2, CPU)
    with pytest.raises(ValueError, match="3 rows are drawn for 2 players"), drawing_for(players):
        torch.rand(3, 1)


@pytest.fixture(scope="module")
def stage(source: Source) -> Stage:
    return open_stage(source, PlayConfig(horizon=6, seed=3, precision="fp32"), CPU)


@pytest.mark.parametrize("controller", ["policy", "human", "random", "replay"])
def test_a_player_alone_and_one_beside_others_see_the_same(stage: Stage, controller: str) -> None:
    """Whether others play in the same batch, and start again in between."""
    alone = watch(stage.player(0), [], controller)
    beside = watch(stage.player(0), [stage.player(1), stage.player(2)], controller)
    for (step, act, frame), (other_step, other_act, other_frame) in zip(alone, beside, strict=True):
        assert (step, act) == (other_step, other_act)
        assert (frame.int() - other_frame.int()).abs().max() <= CLOSE
    assert len({frame.numpy().tobytes() for _, _, frame in alone}) > TICKS / 2


def test_players_of_different_seeds_see_different_frames(stage: Stage) -> None:
    one, other = (watch(stage.player(number), [], "policy") for number in range(2))
    assert any(not torch.equal(frame, other_frame) for (*_, frame), (*_, other_frame) in zip(one, other, strict=True))


def watch(player: PlayEnv, others: list[PlayEnv], controller: str) -> list[tuple[int, int | None, Tensor]]:
    """Step, action and frame of a player at each tick, while others play."""
    player.obey(SetController(controller))
    seen = []
    for tick in range(TICKS):
        again = (Press("return"),)
        turn = Turn(again if tick == 9 else (), ("d",) if tick % 3 else ())
        elsewhere = Turn(again if tick % 4 == 1 else ())
        views = take_turns([*[(other, elsewhere) for other in others], (player, turn)])
        seen.append((player.now.step, player.now.act, views[-1].frame))
    return seen
