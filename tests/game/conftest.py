"""SDL's dummy driver, and run folders that all tests of playing share."""

import os
import shutil

import pytest

# Before anything opens a display.
os.environ["SDL_VIDEODRIVER"] = "dummy"

from game_runs import make_run, mark_data
from run.folder import RunFolder
from trained.source import Source, load_source


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Not to be written to."""
    return make_run(tmp_path_factory.mktemp("playing") / "run")


@pytest.fixture(scope="session")
def source(shared_run: RunFolder) -> Source:
    """What there is to play in the shared run."""
    return load_source(shared_run.path, None, False)


@pytest.fixture(scope="session")
def marked_run(shared_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The shared run, with test data whose frames tell where they are from. Not to be written to."""
    folder = RunFolder(tmp_path_factory.mktemp("marked") / "run")
    shutil.copytree(shared_run.path, folder.path)
    shutil.rmtree(folder.dataset("test"))
    mark_data(folder.dataset("test"), (3, 16, 16), lambda number, steps: (number + steps + steps // 3) % 4)
    return folder
