"""`evaluation.jsonl` in a run folder: one line for each evaluation of its weights."""

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from errors import UserError
from files import append_json_line, as_json, load_json_lines
from run.folder import PROJECT

NAME = "evaluation.jsonl"


def append_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Append the results of an evaluation, with the time and the commit of this code, as one whole line.

    JSON has no infinite numbers: a number that is not finite is written as null.
    """
    known = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit()}
    append_json_line(folder / NAME, as_json({**known, **record}))


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The evaluations of a run, oldest first; raises UserError for a damaged file."""
    records = load_json_lines(folder / NAME)
    for number, record in enumerate(records, start=1):
        returns, settings = record.get("returns"), record.get("settings", {})
        if not isinstance(returns, list) or not all(isinstance(value, int | float | None) for value in returns):
            raise UserError(f"{folder / NAME} is damaged: line {number} has no list of returns.")
        if not isinstance(settings, dict):
            raise UserError(f"{folder / NAME} is damaged: the settings in line {number} are {settings!r}.")
    return records


@cache
def commit() -> str | None:
    """The commit of this code, with `-dirty` after changes; None outside of a git repository."""
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # A run folder inside the repository has a copy of the code that git does not know.
    return found.stdout.strip() or None if (PROJECT / ".git").exists() else None
