"""Evaluate trained agents in the real game: `python src/evaluate.py RUN_DIR`; or, with `--world`, imagined worlds."""

import argparse
import sys

from evaluation.agent_command import evaluate_agents
from evaluation.episodes import Watch
from evaluation.options import read_arguments
from evaluation.sources import open_sources
from evaluation.world_command import evaluate_worlds
from game.spectator import Spectator
from game.window.painter import Painter
from game.window.window import Window, open_display
from rl.collector import Collector
from run.config import register_resolvers
from run.door import explain
from run.interrupt import Interrupts

FPS, SIZE = 60, 640


def main() -> int:
    """The exit code: 0 done, 2 a mistake of the user, 130 stopped."""
    register_resolvers()
    arguments = read_arguments()
    return explain(lambda: evaluate(arguments), "Stopped.")


def evaluate(arguments: argparse.Namespace) -> int:
    if arguments.world:
        return evaluate_worlds(arguments, open_sources(arguments))
    return evaluate_agents(arguments, open_sources(arguments), choose_watch(arguments))


def choose_watch(arguments: argparse.Namespace) -> Watch | None:
    """With `--render`, shows episodes in a window; when it is closed, they are played to their end without it."""
    if not arguments.render:
        return None
    open_display(instead="--record DIR to make films")

    def watch(collector: Collector, title: str) -> None:
        Window(title, Painter(SIZE), FPS, Interrupts()).show(Spectator(collector, arguments.episodes))

    return watch


if __name__ == "__main__":
    sys.exit(main())
