"""One wide picture that compares a prediction with what happened."""

import torch
from torch import Tensor

TITLES = ("current", "predicted", "real", "difference")
GAP, LINE = 2, 3
"""Pixels between frames, and of the timeline's height."""
TROUGH, PAST, AHEAD = (48, 48, 56), (140, 140, 150), (255, 176, 32)


def side_by_side(current: Tensor, predicted: Tensor, real: Tensor | None, times: tuple[int, int, int]) -> Tensor:
    """Current, predicted, real frame and their absolute difference, above a timeline: uint8 (3, h', w').

    The frames are uint8 (c, h, w); where the real one is not known yet, the last two are black. `times`: the step of
    the current frame, the predicted one, and the last one that the timeline has room for.
    """
    black = torch.zeros_like(predicted)
    difference = black if real is None else (predicted.int() - real.int()).abs().byte()
    frames = [frame.expand(3, -1, -1) for frame in (current, predicted, black if real is None else real, difference)]
    height, width = frames[0].shape[1:]
    picture = torch.zeros(3, height + GAP + LINE, 4 * width + 3 * GAP, dtype=torch.uint8)
    for place, frame in enumerate(frames):
        picture[:, :height, place * (width + GAP) :][..., :width] = frame
    _draw_timeline(picture[:, height + GAP :], *times)
    return picture


def _draw_timeline(line: Tensor, now: int, ahead: int, last: int) -> None:
    """A bar up to now, and from there to the predicted step, in a picture (3, h, w)."""
    room, end = line.size(2) - 1, max(1, last)
    first, second = room * min(now, end) // end, room * min(ahead, end) // end
    for colour, left, right in ((TROUGH, 0, room), (AHEAD, first, second), (PAST, 0, first)):
        line[:, :, left : right + 1] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
