"""The one exception that is meant for a person."""

from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: one line that says what is wrong, where, and how to mend it.

    The doors (`main.py`, `play.py`) print the line and leave with exit code 2, without a traceback.
    """


def near_matches(word: str, known: Iterable[str]) -> str:
    """A sentence that names the known words most like `word`, or an empty string."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    near = [by_lower[match] for match in difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
