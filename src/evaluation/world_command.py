"""Measuring imagined worlds: `evaluate.py --world`."""

import argparse
from collections.abc import Sequence

from errors import UserError
from trained.source import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of worlds to the command line."""


def evaluate_worlds(arguments: argparse.Namespace, sources: Sequence[Source]) -> int:
    """Measure the worlds of these sources; returns the exit code."""
    raise UserError("--world is not part of this version.")
