"""Watching a collector play, without taking part."""

import threading

from game.inputs import Command
from game.view import Field, View
from rl.collector import Collector


class Spectator:
    """Steps a collector, and shows the first of its environments that has episodes left; ends with the last episode."""

    repeating_keys: frozenset[str] = frozenset()
    game_keys: frozenset[str] = frozenset()
    wants_pointer = False
    is_still = False
    help: tuple[tuple[str, str], ...] = ()

    def __init__(self, collector: Collector, num_episodes: int) -> None:
        """`collector` has begun `num_episodes` episodes."""
        self._collector = collector
        self._num_episodes = num_episodes
        # The window can be closed while a step is computed in another thread.
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def is_over(self) -> bool:
        return self._collector.is_complete

    def press(self, key: str) -> None:
        """There is nothing to do but to watch."""

    def obey(self, command: Command) -> None:
        """As for keys."""

    def tick(self, held: list[str], motion: tuple[float, float] = (0, 0)) -> None:
        with self._lock:
            if not self._is_closed and not self._collector.is_complete:
                self._collector.step()

    def view(self) -> View:
        frame, total = self._collector.glance()
        results = self._collector.results
        fields = (
            Field("episodes", len(results.returns), 18, unit=f"/{self._num_episodes}"),
            Field("return", total, 15),
            Field("mean", results.mean_return if results.returns else None, 13),
        )
        return View(frame, fields)

    def close(self) -> None:
        """The episodes go on without the window, after the step that is being computed."""
        with self._lock:
            self._is_closed = True
