"""Multi-hot actions: their entries, and which of the held keys count."""

import numpy as np
import pytest
import torch

from conftest import PROJECT
from data import ActionLayout
from envs.recorded import load_recorded_game
from errors import UserError
from recordings import KEYS, NO_MOTION, NUM_ACTIONS

CSGO = load_recorded_game("csgo").actions


def entries(held: list[str], motion: tuple[float, float] = (0, 0)) -> set[int]:
    """The entries of an action that are set, except the ones for no mouse motion."""
    act = CSGO.encode(held, motion)
    assert act.dtype == torch.uint8
    return set(act.nonzero().flatten().tolist())


def test_layout_of_csgo() -> None:
    assert CSGO.num_actions == NUM_ACTIONS
    assert entries([]) == set(NO_MOTION)
    for key, (entry, _) in KEYS.items():
        assert entries([key]) == {entry, *NO_MOTION}
    names = ("w", "a", "s", "d", "space", "left ctrl", "left shift", "1", "2", "3", "r", "left click", "right click")
    for entry, name in enumerate(names):
        assert entries([name]) == {entry, *NO_MOTION}
    assert entries(["w", "d", "left click", "right click"]) == {0, 3, 11, 12, *NO_MOTION}


def test_opposite_directions_and_two_weapons_are_dropped() -> None:
    assert entries(["w", "s", "a"]) == {1, *NO_MOTION}
    assert entries(["a", "d"]) == set(NO_MOTION)
    assert entries(["1", "3", "space"]) == {4, *NO_MOTION}
    assert entries(["2"]) == {8, *NO_MOTION}


@pytest.mark.parametrize(
    ("motion", "x", "y"),
    [((0, 0), 0, 0), ((3, -3), 2, -4), ((-1000, 200), -1000, 200), ((99999, -99999), 1000, -200), ((45, 8), 30, 10)],
)
def test_mouse_motion_counts_as_the_nearest(motion: tuple[int, int], x: int, y: int) -> None:
    act = CSGO.encode([], motion)
    seen_x = [value for value, is_set in zip(CSGO.mouse_x, act[13:36].tolist(), strict=True) if is_set]
    seen_y = [value for value, is_set in zip(CSGO.mouse_y, act[36:].tolist(), strict=True) if is_set]
    # Where two are equally near, either is right.
    assert abs(seen_x[0] - motion[0]) == min(abs(value - motion[0]) for value in CSGO.mouse_x)
    assert abs(seen_y[0] - motion[1]) == min(abs(value - motion[1]) for value in CSGO.mouse_y)
    assert len(seen_x) == len(seen_y) == 1
    assert abs(seen_x[0]) <= abs(x)


def test_arrow_keys_stand_for_the_mouse() -> None:
    assert CSGO.describe(CSGO.encode(["right"])) == "+60,+0"
    assert CSGO.describe(CSGO.encode(["left", "up", "w"])) == "w -60,-50"
    assert CSGO.describe(CSGO.encode(["down"])) == "+0,+50"
    assert CSGO.describe(CSGO.encode(["left", "right"])) == ""


def test_many_steps_at_once_equal_single_steps() -> None:
    rng = np.random.default_rng(0)
    held = rng.random((50, len(CSGO.held_names))) < 0.3
    motions = rng.normal(0, 100, (50, 2))
    together = CSGO.encode_steps(held, motions)
    for row, flags, motion in zip(together, held, motions, strict=True):
        names = [name for name, is_held in zip(CSGO.held_names, flags, strict=True) if is_held]
        assert (row == CSGO.encode(names, tuple(motion)).numpy()).all()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"keys": ()}, "needs keys, buttons or mouse motions"),
        ({"keys": ("w", "w")}, "names w twice"),
        ({"keys": ("w",), "exclusive": (("w", "s"),)}, "has s in exclusive"),
        ({"keys": ("w",), "mouse_x": (1, 0)}, "mouse_x of the action layout has to ascend"),
        ({"keys": ("w", "s"), "exclusive": ("w", "s")}, "exclusive of the action layout lists groups"),
        ({"keys": ("w",), "arrows": (1,)}, "arrows of the action layout are two numbers"),
    ],
)
def test_layouts_that_cannot_work(entries: dict[str, tuple], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ActionLayout(**entries)


def test_games_by_name_and_by_path() -> None:
    by_path = load_recorded_game(str(PROJECT / "config" / "env" / "csgo.yaml"))
    assert by_path == load_recorded_game("csgo")
    with pytest.raises(UserError, match="Did you mean csgo"):
        load_recorded_game("csgoo")
    with pytest.raises(UserError, match="describes no recorded game"):
        load_recorded_game("atari")
