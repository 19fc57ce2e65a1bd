"""SDL's dummy driver, and one run folder that all tests of playing share."""

import os

import pytest

# Before anything opens a display.
os.environ["SDL_VIDEODRIVER"] = "dummy"

from game_runs import make_run
from run.folder import RunFolder


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Not to be written to."""
    return make_run(tmp_path_factory.mktemp("playing") / "run")
