"""What the header of play mode says."""

from game.idle_keys import IdleKeys
from game.keys import ActionKeys
from game.layout_keys import LayoutKeys
from game.moment import Moment, Place
from game.view import Bar, Field


def header_fields(
    now: Moment,
    place: Place,
    label_width: int,
    who: str,
    keys: ActionKeys | LayoutKeys | IdleKeys,
    shows_thoughts: bool,
) -> tuple[Field, ...]:
    """The world, who acts, the last step, and with `shows_thoughts` the policy's entropy and value."""
    world = place.imagined
    fields = [
        Field("", place.label, label_width),
        Field("", who, 15),
        Field("step", now.step, 10),
        Field("horizon", None if world is None else world.horizon, 12, is_detail=True),
    ]
    if place.shows_rewards:
        fields += [
            Field("return", now.total, 16, is_detail=True),
            Field("reward", now.rew, 14, "+", is_detail=True),
            Field("end", now.end, 7, is_detail=True),
        ]
    if place.shows_continue:
        # From the first frame, at which there is no number yet: pictures of a film have one size.
        fields.append(Field("continue", now.going_on, 15, ".3f"))
    fields += [
        Field("trunc", now.trunc, 9, is_detail=True),
        Field("action", None if now.act is None else keys.name(now.act), 7 + keys.longest_name),
    ]
    if shows_thoughts:
        fields += [
            Field("entropy", now.entropy, 17, ".2f", " bits", is_detail=True),
            Field("value", now.value, 13, is_detail=True),
        ]
    return tuple(fields)


def action_bars(now: Moment, keys: ActionKeys | LayoutKeys | IdleKeys) -> tuple[Bar, ...]:
    """The probabilities from which the last action was drawn; at the start, the probabilities of the next action."""
    probs = now.probs if now.act is None else now.probs_before
    bars = enumerate(zip(keys.signs(), probs, strict=False))
    return tuple(Bar(sign, share, act == now.act, keys.name(act)) for act, (sign, share) in bars)
