"""The speed of each kind of work, and an estimate of the remaining time."""

from datetime import timedelta


class Pace:
    """The time per unit of each kind of work, measured in this process."""

    def __init__(self) -> None:
        self._units: dict[str, float] = {}
        self._seconds: dict[str, float] = {}

    def add(self, kind: str, units: float, seconds: float) -> None:
        self._units[kind] = self._units.get(kind, 0.0) + units
        self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds

    def rate(self, kind: str) -> float:
        """Units per second; 0 for a kind that was never measured."""
        return self._units.get(kind, 0.0) / max(self._seconds.get(kind, 0.0), 1e-9)

    def seconds_for(self, remaining: dict[str, float]) -> float:
        """Estimated time for the remaining units; kinds that were never measured are not counted."""
        return sum(units / self.rate(kind) for kind, units in remaining.items() if self.rate(kind) > 0)


def in_words(seconds: float) -> str:
    """Format a duration: 45 s, 12 min, 3 h 05 min, 2 days 4 h."""
    span = timedelta(seconds=round(seconds))
    hours, minutes = span.seconds // 3600, span.seconds % 3600 // 60
    if span.days:
        return f"{span.days} day{'s' if span.days > 1 else ''} {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if minutes else f"{span.seconds} s"
