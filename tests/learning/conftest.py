"""The run that the tests of learning share."""

import time

import pytest

import runs
from run.folder import RunFolder


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of the ordinary command line with the settings of `config/experiment/tiny.yaml`.

    It keeps the weights of every epoch.
    """
    folder = tmp_path_factory.mktemp("learning") / "run"
    game = ["env=gym", "env.train.id=pixel_game:Chase-v0", "+experiment=tiny", "common.device=cpu"]
    started = time.monotonic()
    settings = ["common.seed=0", "checkpointing.save_agent_every=1", f"hydra.run.dir={folder}"]
    command = runs.command(*game, *settings)
    result = runs.run(command, timeout=2400)
    assert result.returncode == 0, result.stderr
    print(f"trained in {time.monotonic() - started:.0f} s\n{result.stdout}")
    return RunFolder.open(folder)
