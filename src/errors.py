"""The exception whose message is shown to the user."""

from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can correct. The message is one line: what is wrong, where, and how to correct it.

    The entry points print the message and exit with code 2, without a traceback.
    """


def near_matches(word: str, known: Iterable[str]) -> str:
    """A sentence that suggests the known words most similar to `word`, or an empty string."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    near = [by_lower[match] for match in difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)]
    return f" Did you mean {' or '.join(near)}?" if near else ""


def one_line(error: Exception) -> str:
    """The message of an error on one line."""
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())
