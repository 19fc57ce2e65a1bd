"""Command lines whose mistakes are one line."""

import argparse
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Reports a mistake in one line and exit code 2. `prog` is the program as it is called: `src/play.py`."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}. python {self.prog} --help lists all options.\n")


def whole(word: str) -> int:
    """A number from 0 to 999999999."""
    if not (word.isascii() and word.isdecimal() and len(word) < 10):
        raise argparse.ArgumentTypeError(f"{word} is not a whole number from 0 to 999999999")
    return int(word)


def positive(word: str) -> int:
    """A number from 1 to 999999999."""
    if whole(word) == 0:
        raise argparse.ArgumentTypeError("0 is too small")
    return int(word)
