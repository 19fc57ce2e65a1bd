"""The check of a data set when it is opened, and the note of which of its files were good the last time."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.episode import Episode
from data.spaces import Actions, Spaces
from errors import UserError
from files import require_plain_file, write_text_atomically

VERSION = 1
"""Has to grow when the check becomes stricter."""
SETTLED = 2.0
"""Seconds after a change in which the next one could leave the times of a file as they are."""


def check_episodes(directory: Path, paths: Sequence[Path], lengths: Sequence[int]) -> Spaces:
    """Read every episode file that was not found good before, and compare them.

    `lengths` are the numbers of steps that are counted in each. Returns the shape of frames and the actions that all
    episodes share. Raises UserError for a file that is not in the folder, is not an episode, is too short, or differs
    from the first.
    """
    # Imported here, so that networks and batches can be benchmarked with only PyTorch installed.
    from tqdm import tqdm

    notes = _Notes(directory)
    first: Spaces | None = None
    size = 0
    with tqdm(paths, f"Checking {directory.name} data", leave=False, delay=1, disable=None) as bar:
        for path, length in zip(bar, lengths, strict=True):
            found = _find_spaces(directory, path, length, notes)
            first = first or found
            size = max(size, found.actions.size)
            _compare(path, found, paths[0], first)
    notes.save()
    return Spaces(first.frame, Actions(first.actions.kind, size))


def require_inside(directory: Path, path: Path) -> None:
    """Raise UserError if a file of a data set is elsewhere, by a symbolic link."""
    real = os.path.realpath(path)
    if not real.startswith(os.path.join(os.path.realpath(directory), "")):
        raise UserError(f"{path} is a link out of its data set, to {real}: copy the file into the folder.")


def _find_spaces(directory: Path, path: Path, length: int, notes: "_Notes") -> Spaces:
    require_plain_file(path)
    require_inside(directory, path)
    name, stamp = str(path.relative_to(directory)), _stamp(path, length)
    found = notes.find(name, stamp)
    if found is None:
        episode = Episode.load(path)
        if len(episode) < length:
            raise UserError(f"{path} holds {len(episode)} steps, but {directory / 'info.pt'} counts {length}.")
        found = Spaces(tuple(episode.obs.shape[1:]), Actions.of(episode.act))
        notes.add(name, stamp, found)
    return found


def _compare(path: Path, found: Spaces, first_path: Path, first: Spaces) -> None:
    if found.frame != first.frame:
        raise UserError(f"{path} has frames {found.frame} in obs, but {first_path} has {first.frame}.")
    if not found.actions.is_like(first.actions):
        raise UserError(f"{path} has {found.actions} actions in act, but {first_path} has {first.actions} ones.")


def _stamp(path: Path, length: int) -> list[int]:
    """What changes when a file does: its size and times, and the steps that are counted in it."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, length]


class _Notes:
    """Which files of a data set were good: a file in the user's cache folder, for each data set.

    A note counts while size and times of the episode file are the same. Without a cache folder that can be written to,
    every file is checked each time.
    """

    def __init__(self, directory: Path) -> None:
        name = hashlib.sha256(os.path.realpath(directory).encode()).hexdigest()[:32]
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        self._path = Path(base) / "playable-world-models" / "checked" / f"{name}.json"
        self._before = self._read()
        self._now: dict[str, Any] = {}

    def find(self, name: str, stamp: list[int]) -> Spaces | None:
        note = self._before.get(name)
        try:
            if note["stamp"] != stamp:
                return None
            spaces = Spaces(tuple(note["frame"]), Actions(note["kind"], note["size"]))
        except (KeyError, TypeError):
            return None
        self._now[name] = note
        return spaces

    def add(self, name: str, stamp: list[int], found: Spaces) -> None:
        _, changed, moved, *_ = stamp
        if time.time() - max(changed, moved) / 1e9 > SETTLED:
            actions = found.actions
            self._now[name] = {"stamp": stamp, "frame": found.frame, "kind": actions.kind, "size": actions.size}

    def save(self) -> None:
        if self._now == self._before:
            return
        try:
            write_text_atomically(self._path, json.dumps({"version": VERSION, "episodes": self._now}))
        except (OSError, UserError):
            return

    def _read(self) -> dict[str, Any]:
        try:
            stored = json.loads(self._path.read_text())
            return dict(stored["episodes"]) if stored["version"] == VERSION else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
