"""From held keys to the actions of a game."""

import re
from collections.abc import Sequence

import torch

KEY_OF = {"UP": "w", "DOWN": "s", "LEFT": "a", "RIGHT": "d", "FIRE": "space"}
SIGN_OF = {"UP": "↑", "DOWN": "↓", "LEFT": "←", "RIGHT": "→", "FIRE": "●"}
DIAGONALS = {"↑→": "↗", "↑←": "↖", "↓→": "↘", "↓←": "↙"}
OPPOSITE = {"w": "s", "s": "w", "a": "d", "d": "a"}
NAME = re.compile("(UP|DOWN)?(LEFT|RIGHT)?(FIRE)?")


class ActionKeys:
    """Which keys stand for which action.

    Actions named as Atari's (`NOOP`, `UPRIGHTFIRE`, …) are chords of w a s d and space. Actions of other environments
    are digits, and the first action is 0.
    """

    def __init__(self, action_names: Sequence[str]) -> None:
        self.names = tuple(action_names)
        parts = [_parts(name) for name in self.names]
        self.has_directions = None not in parts
        if not self.has_directions:
            parts = [{str(action)} if action < 10 else {""} for action in range(len(self.names))]
        self._keys: list[set[str]] = [{KEY_OF.get(part, part) for part in chord} for chord in parts]
        self._idle = self._keys.index(set()) if set() in self._keys else 0
        self.has_mouse = False
        self.game_keys = frozenset().union(*self._keys)
        self.longest_name = max(map(len, self.names))

    def action(self, held: Sequence[str], motion: tuple[float, float] = (0, 0)) -> int:
        """The action of the keys that are held, oldest first.

        Of two opposite directions, only the newer key counts. Where no action has all the keys, the action with most of
        them is chosen, and among several of these the one with the newest keys.
        """
        wanted: list[str] = []
        for key in reversed(held):
            if key not in wanted and OPPOSITE.get(key) not in wanted:
                wanted.append(key)
        best, best_rank = self._idle, (0, [])
        for action, keys in enumerate(self._keys):
            if keys and keys <= set(wanted):
                rank = (len(keys), [key in keys for key in wanted])
                if rank > best_rank:
                    best, best_rank = action, rank
        return best

    def draw(self) -> int:
        """A random action."""
        return int(torch.randint(len(self.names), ()))

    def name(self, act: int) -> str:
        return self.names[act]

    def signs(self) -> list[str]:
        """A sign of one or two characters for each action."""
        return [_sign(name) if self.has_directions else str(action) for action, name in enumerate(self.names)]

    def help(self) -> tuple[tuple[str, str], ...]:
        """The single keys, and what they do; chords of them follow from that."""
        single = [(next(iter(keys)), name) for keys, name in zip(self._keys, self.names, strict=True) if len(keys) == 1]
        return tuple((key, name) for key, name in single if key)

    def describe(self) -> str:
        """What to hold for each action, on one line."""
        chords = (
            ("+".join(sorted(keys, key=_typing_order)), name) for keys, name in zip(self._keys, self.names, strict=True)
        )
        return ", ".join(f"{chord} {name}" for chord, name in chords if chord)


def _parts(name: str) -> set[str] | None:
    """The directions and fire in an action's name; None for a name that is not made of them."""
    match = NAME.fullmatch(name.upper())
    if name.upper() == "NOOP":
        return set()
    return {part for part in match.groups() if part} if match and name else None


def _sign(name: str) -> str:
    match = NAME.fullmatch(name.upper())
    if match is None:
        return "·"
    arrows = "".join(SIGN_OF[part] for part in match.groups()[:2] if part)
    return DIAGONALS.get(arrows, arrows) + (SIGN_OF["FIRE"] if match[3] else "")


def _typing_order(key: str) -> int:
    order = [*KEY_OF.values()]
    return order.index(key) if key in order else 0
