"""The runs that people can choose among, each opened when it is first chosen."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from game.build import Player, Stage, open_stage
from game.play_env import PlayEnv
from game.recorder import Recorder
from trained.source import list_runs, load_source

MOST_OPEN = 2
"""Runs whose networks stay in memory, besides the first."""


class Stages:
    """Makes players of the first run, and of the other ones in `outputs/`; keeps their recorders."""

    def __init__(self, first: Stage, overrides: Sequence[str] = (), trusts: bool = False) -> None:
        """`overrides` and `trusts` as in `load_source`."""
        self.recorders: list[Recorder] = []
        self._first = first
        self._open = lru_cache(maxsize=MOST_OPEN)(
            lambda run: open_stage(load_source(run, None, False, overrides, trusts), first.config, first.device)
        )

    def player(self, number: int) -> Player:
        """A player of the first run."""
        return self._keep(self._first.player(number))

    def openers(self) -> dict[str, Callable[[int], Player]]:
        """Functions that make the player of a number, by the names of runs; the first run comes first."""
        runs, folder = list_runs(), self._first.source.folder
        here = next((name for name, run in runs.items() if run == folder), folder.name)
        return {here: self.player, **{name: partial(self._other, run) for name, run in runs.items() if name != here}}

    def _other(self, run: Path, number: int) -> Player:
        return self._keep(self._open(run).player(number))

    def _keep(self, player: Player) -> Player:
        if isinstance(player, PlayEnv) and player.recorder is not None:
            self.recorders.append(player.recorder)
        return player
