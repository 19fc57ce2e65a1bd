"""The session core without a front end: inputs, pace, the thread that computes, and batches of several players."""

import threading

import pygame
import pytest

from errors import UserError
from game.build import PlayConfig, open_stage
from game.engine import Engine
from game.inputs import (
    FocusLost,
    GoTo,
    Inputs,
    KeyDown,
    KeyUp,
    Moved,
    Pause,
    Press,
    SetController,
    SetDenoising,
    SetEnv,
    SetHorizon,
    Turn,
)
from game.key_names import KEYS
from game.session import Session
from game.together import take_turns
from game.view import View
from game_runs import CPU
from slow import Slow
from trained.source import Source


def test_the_names_of_keys_are_those_of_sdl() -> None:
    pygame.init()
    names = {pygame.key.name(value) for name, value in vars(pygame).items() if name.startswith("K_")}
    assert names - {""} == KEYS


def test_keys_are_held_tapped_and_repeated() -> None:
    inputs = Inputs(frozenset({"up"}))
    for event in (KeyDown("a"), KeyDown("b"), KeyUp("b"), KeyDown("a"), KeyDown("up"), KeyDown("up")):
        inputs.take(event)
    turn = inputs.next_turn()
    # A tap counts once; a repetition is a command only for keys that repeat.
    assert turn.held == ("b", "a", "up")
    assert turn.commands == (Press("a"), Press("b"), Press("up"), Press("up"))
    assert inputs.next_turn() == Turn(held=("a", "up"))
    inputs.take(FocusLost())
    assert inputs.next_turn() == Turn()


def test_motion_adds_up_once_and_the_last_sequence_number_comes_back() -> None:
    inputs = Inputs()
    inputs.take(Moved(3, -1), 7)
    inputs.take(Moved(2, 0.5), 8)
    assert inputs.next_turn() == Turn(motion=(5, -0.5), sequence=8)
    assert inputs.next_turn() == Turn(sequence=8)


def test_a_slow_frame_blocks_nobody() -> None:
    playable, now = Slow(), [100.0]
    session = Session(playable, Engine(), 10, clock=lambda: now[0])
    session.begin()
    assert playable.is_ticking.wait(60)
    assert session.collect() is None
    assert not session.is_thinking
    now[0] += 1
    assert session.is_thinking
    session.take(KeyDown("m"), 5)
    session.begin()  # one tick at a time
    playable.may_go.set()
    session.wait(60)
    first = session.collect()
    assert (first.number, first.sequence, playable.ticks, playable.commands) == (1, 0, 1, [])
    session.begin()
    session.wait(60)
    second = session.collect()
    assert (second.number, second.sequence, second.held) == (2, 5, ("m",))
    assert playable.commands == [Press("m")]
    assert (first.frame_changed, second.frame_changed) == (True, True)


def test_leaving_does_not_wait_for_a_slow_frame() -> None:
    playable, engine = Slow(), Engine()
    session = Session(playable, engine, 10)
    session.begin()
    session.close()
    assert playable.is_closed
    assert playable.ticks == 0
    playable.may_go.set()
    engine.stop()


def test_whoever_waits_for_a_slow_frame_can_be_woken() -> None:
    playable, engine = Slow(), Engine()
    session = Session(playable, engine, 10)
    session.begin()
    waiting = threading.Thread(target=session.wait, args=(1000,))
    waiting.start()
    session.wake()
    waiting.join(60)
    assert not waiting.is_alive()
    assert session.is_waiting
    playable.may_go.set()
    engine.stop()


def test_nobody_waits_for_an_engine_that_was_stopped() -> None:
    playable, engine = Slow(), Engine()
    first, second = [engine.submit(playable, Inputs().next_turn) for _ in range(2)]
    assert playable.is_ticking.wait(60)
    engine.stop()
    third = engine.call(lambda: 1)
    playable.may_go.set()
    assert isinstance(first.result(60), View)
    assert third.cancelled()
    assert second.cancelled() or isinstance(second.result(60), View)


def test_the_pace_is_even_and_late_ticks_are_not_made_up_for() -> None:
    playable, now, begun = Slow(), [50.0], []
    playable.may_go.set()
    session = Session(playable, Engine(), 8, clock=lambda: now[0])
    for step in range(40):
        now[0] = 50 + step / 32 + (3 if step >= 20 else 0)
        session.begin()
        if session.is_waiting:
            begun.append(step)
            session.wait(60)
            session.collect()
    assert begun == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]
    assert session.rate == pytest.approx(8)


def test_a_mistake_in_a_turn_is_its_own_players(source: Source) -> None:
    good, bad = Slow(), Slow()
    good.may_go.set()
    bad.may_go.set()
    views = take_turns([(bad, Turn(commands=(GoTo(99),))), (good, Turn(sequence=3))])
    assert isinstance(views[0], UserError)
    assert views[1].sequence == 3


@pytest.fixture(scope="module")
def stage(source: Source):
    return open_stage(source, PlayConfig(horizon=4, seed=3, precision="fp32"), CPU)


def test_players_of_a_world_are_independent(stage) -> None:
    """Horizon, place, pace of episodes and memory belong to a player; their steps are computed as one batch."""
    one, other, real = [stage.player(number) for number in range(3)]
    real.obey(SetEnv("test"))
    other.obey(SetHorizon(2))
    assert (one.world.env.horizon, other.world.env.horizon) == (4, 2)
    steps = []
    for tick in range(12):
        commands = (Press("return"),) if tick == 5 else ()
        views = take_turns([(one, Turn(commands=commands)), (other, Turn()), (real, Turn())])
        assert all(isinstance(view, View) for view in views), views
        steps.append((one.now.step, other.now.step, real.now.step))
        assert one.now.trunc == (one.now.step == 4)
        assert other.now.trunc == (other.now.step == 2)
    assert [step for _, _, step in steps] == list(range(1, 13))
    # The reset of one left the other where it was.
    assert steps[5][0] == 1
    assert max(step for step, _, _ in steps) <= 4
    assert max(step for _, step, _ in steps) == 2


def test_typed_commands(stage) -> None:
    player = stage.player()
    choices = {choice.name: choice for choice in player.view().choices}
    assert choices["env"].options == ("wm", "test", "train")
    assert choices["controller"].options == ("policy", "human", "random", "replay")
    player.obey(SetController("human"))
    player.obey(SetDenoising(2))
    player.obey(Pause())
    values = {choice.name: choice.value for choice in player.view().choices}
    assert values == {"env": "wm", "controller": "human", "horizon": 4, "denoising": 2}
    assert player.world.env.sampler.config.num_steps_denoising == 2
    assert "paused" in player.view().status
    with pytest.raises(UserError, match=r"There is no env 'tset': it is one of wm, test, train. Did you mean test"):
        player.obey(SetEnv("tset"))
    with pytest.raises(UserError, match="horizon=0 is not possible"):
        player.obey(SetHorizon(0))


def test_bars_belong_to_the_action_that_was_chosen_by_them(stage) -> None:
    player = stage.player()
    for _ in range(30):
        before = player.now
        player.step()
        if player.now.step == before.step + 1:
            bars = player.view().bars
            assert [bar.share for bar in bars] == list(before.probs)
            assert [bar.name for bar in bars if bar.is_chosen] == [player.keys.name(player.now.act)]


def test_scores_and_the_end_of_an_episode(stage) -> None:
    player, totals, told = stage.player(), [], []
    session = Session(player, Engine(), 1e6, tell=told.append)
    while len(totals) < 4:
        session.begin()
        session.wait(60)
        view = session.collect()
        if player.now.is_last:
            totals.append(player.now.total)
            assert (view.score.last, view.score.best) == (totals[-1], max(totals))
            assert view.ended.reason == ("game over" if player.now.end else "horizon reached")
            assert session.banner.endswith(view.ended.reason)
            assert told[-1].startswith(f"Episode {len(totals)}: return ")
    assert len(told) == 4
