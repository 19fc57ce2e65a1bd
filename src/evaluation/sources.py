"""The agents that a command line names."""

import argparse
import sys
from collections.abc import Iterator

from run.folder import PROJECT, RunFolder
from trained.pretrained import find_game, load_pretrained
from trained.source import Source, find_run, load_source
from trained.weights import kept_epochs


def open_sources(arguments: argparse.Namespace) -> Iterator[Source]:
    """The named weights of the named runs, or of the newest, and published ones, read one after another.

    A run that is named twice is opened once. A run that is still being trained may meanwhile remove weights that
    `--every` has found: they are left out. Raises UserError, before any weights are read, for a folder that is no
    run, and where `--every` finds no weights.
    """
    names_none = not arguments.runs and not arguments.pretrained
    named = [None] if names_none else arguments.runs
    folders = list(dict.fromkeys(find_run(path, needs_weights=True) for path in named))
    games = list(dict.fromkeys(find_game(word) for word in arguments.pretrained))
    every = arguments.every
    epochs = [[arguments.epoch] if every is None else kept_epochs(RunFolder(folder), every) for folder in folders]

    def read() -> Iterator[Source]:
        for folder, chosen in zip(folders, epochs, strict=True):
            for epoch in chosen:
                if every is not None and not RunFolder(folder).agent_version(epoch).is_file():
                    print(f"warning: {folder} does not keep the weights of epoch {epoch} any more.", file=sys.stderr)
                    continue
                yield load_source(folder, epoch, arguments.best, arguments.overrides, arguments.trust)
        for game in games:
            yield load_pretrained(game, arguments.local_dir, PROJECT / "outputs", arguments.overrides)

    return read()
