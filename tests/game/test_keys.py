"""Held keys, chords, and the names of actions."""

import pytest
from ale_py import Action

from game.keys import ActionKeys

ALL = [action.name for action in sorted(Action.__members__.values(), key=lambda action: action.value)][:18]
BREAKOUT = ["NOOP", "FIRE", "RIGHT", "LEFT"]


@pytest.mark.parametrize(
    ("held", "action"),
    [
        ([], "NOOP"),
        (["w"], "UP"),
        (["d", "w"], "UPRIGHT"),
        (["w", "d"], "UPRIGHT"),
        (["s", "a", "space"], "DOWNLEFTFIRE"),
        (["space", "d"], "RIGHTFIRE"),
        (["a", "d"], "RIGHT"),
        (["d", "a"], "LEFT"),
        (["w", "s", "a"], "DOWNLEFT"),
        (["x", "return"], "NOOP"),
    ],
)
def test_chords(held: list[str], action: str) -> None:
    assert ALL[ActionKeys(ALL).action(held)] == action


def test_the_newer_key_counts_where_there_is_no_chord() -> None:
    keys = ActionKeys(BREAKOUT)
    assert BREAKOUT[keys.action(["d", "space"])] == "FIRE"
    assert BREAKOUT[keys.action(["space", "d"])] == "RIGHT"
    assert BREAKOUT[keys.action(["w"])] == "NOOP"


def test_all_actions_can_be_reached_and_are_described() -> None:
    keys = ActionKeys(ALL)
    described = dict(reversed(entry.split(" ")) for entry in keys.describe().split(", "))
    assert described["UPRIGHTFIRE"] == "w+d+space"
    assert set(described) == set(ALL) - {"NOOP"}
    for action, name in enumerate(ALL):
        assert keys.action(described.get(name, "").split("+")) == action
    assert len(set(keys.signs())) == 18
    assert keys.signs()[:3] == ["·", "●", "↑"]


def test_other_names_are_digits() -> None:
    keys = ActionKeys(["stay", "jump", "run"])
    assert [keys.action(held) for held in ([], ["1"], ["2", "0"], ["5"])] == [0, 1, 0, 0]
    assert keys.describe() == "0 stay, 1 jump, 2 run"
    assert keys.signs() == ["0", "1", "2"]
