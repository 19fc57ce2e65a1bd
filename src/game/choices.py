"""What can be chosen while playing, and the check of what somebody chose."""

from collections.abc import Sequence

from algorithms.base import DenoisingWorld, World
from errors import UserError, near_matches
from game.idle_keys import IdleKeys
from game.keys import ActionKeys
from game.layout_keys import LayoutKeys
from game.moment import Place
from game.view import Choice

CONTROLLERS = {"policy": "π", "human": "H", "random": "random", "replay": "replay"}
"""Who may act, and what their recordings are called."""
LONGEST_HORIZON = 100_000
MOST_DENOISING = 1000


def play_choices(
    place: Place, places: Sequence[Place], controller: str, controllers: Sequence[str]
) -> tuple[Choice, ...]:
    """The environment, who acts, and for imagined worlds the horizon and the denoising steps."""
    found = [
        Choice("env", place.name, tuple(each.name for each in places)),
        Choice("controller", controller, tuple(controllers)),
    ]
    if place.imagined is not None:
        found.append(Choice("horizon", place.imagined.horizon, least=1, most=LONGEST_HORIZON))
    if isinstance(place.env, DenoisingWorld):
        found.append(Choice("denoising", place.env.num_steps_denoising, least=1, most=most_denoising(place.env)))
    return tuple(found)


def play_help(keys: ActionKeys | LayoutKeys | IdleKeys) -> tuple[tuple[str, str], ...]:
    """The game's own keys, then those of play mode that the game leaves free."""
    has_arrows = not keys.game_keys & {"up", "left"}
    moving = (("← →", "environment"), ("↑ ↓", "horizon")) if has_arrows else (("PgUp PgDn", "horizon"),)
    commands = (("m", "hand over, take over"), *moving, ("Enter", "start again"), (".", "pause"))
    return (*keys.help(), *commands, ("e", "one step, when paused"))


def set_horizon(worlds: Sequence[World], steps: int) -> None:
    """Raises UserError for a horizon that is not possible."""
    for world in worlds:
        world.horizon = check_number("horizon", steps, LONGEST_HORIZON)


def set_denoising(worlds: Sequence[World], steps: int) -> None:
    """Of the worlds that denoise; raises UserError for a number of steps that is not possible."""
    for world in worlds:
        if isinstance(world, DenoisingWorld):
            world.num_steps_denoising = check_number("denoising", steps, most_denoising(world))


def most_denoising(world: DenoisingWorld) -> int:
    return min(MOST_DENOISING, world.most_steps_denoising)


def check_word(name: str, word: str, known: Sequence[str]) -> int:
    """The place of a word among the known ones; raises UserError if it is none of them."""
    if word not in known:
        raise UserError(f"There is no {name} {word!r}: it is one of {', '.join(known)}.{near_matches(word, known)}")
    return known.index(word)


def check_number(name: str, value: int, most: int) -> int:
    """The number; raises UserError if it is not from 1 to `most`."""
    if not 1 <= value <= most:
        raise UserError(f"{name}={value} is not possible: it is from 1 to {most}.")
    return value
