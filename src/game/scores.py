"""The returns of the episodes that somebody played."""

from game.moment import Moment, Place
from game.view import Ended, Score


class Scores:
    """Remembers the last and the best return, and how the last episode ended."""

    def __init__(self) -> None:
        self.ended: Ended | None = None
        self._last: float | None = None
        self._best: float | None = None
        self._count = 0

    def end(self, moment: Moment, place: Place) -> None:
        """An episode ended with this moment."""
        self._count += 1
        self._last = moment.total
        self._best = moment.total if self._best is None else max(self._best, moment.total)
        longest = "horizon reached" if place.imagined is not None else "time is up"
        reason = "game over" if moment.end else longest
        self.ended = Ended(self._count, moment.total, moment.step, reason, place.shows_rewards)

    def at(self, moment: Moment) -> Score:
        return Score(moment.total, self._last, self._best)
