"""What every epoch and checkpoint costs: only what must be."""

import resource
import sys
from pathlib import Path

import torch

import runs
from files import save_tensors
from run.folder import RunFolder
from run.log import Log, WandbConfig
from training_helpers import train


class Opened:
    """Counts how often a file is opened to be read, from now on."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0
        sys.addaudithook(self._watch)

    def _watch(self, event: str, arguments: tuple) -> None:
        if event == "open" and str(arguments[0]).endswith(self.name) and arguments[1] in ("r", "rb"):
            self.count += 1


def test_the_log_is_not_read_in_every_epoch(tmp_path: Path) -> None:
    reads = Opened("run/metrics.jsonl")
    settings = ["collection.train.num_steps_total=40", "training.num_final_epochs=7", "evaluation.untrained=false"]
    trainer = train(tmp_path / "run", *settings, "evaluation.every=100", game=runs.CHASE)
    assert trainer.progress.epoch == 9
    # When the log is opened, and for the curves of the only evaluation.
    assert reads.count <= 2


def test_the_log_knows_the_last_epoch(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    log = Log(folder, WandbConfig(), {})
    log.write(1, {"a/loss": 1.0, "b/loss": 2.0})
    log.write(2, {"a/loss": 3.0})
    log.write(2, {"b/loss": 4.0})
    assert log.latest(2) == {"epoch": 2, "a/loss": 3.0, "b/loss": 4.0}
    assert log.latest(1) == {}
    log.sync()
    position = log.position
    log.close()
    again = Log(folder, WandbConfig(), {}, position)
    assert again.latest(2) == {"epoch": 2, "a/loss": 3.0, "b/loss": 4.0}
    again.close()


def test_tensors_are_saved_without_a_second_copy(tmp_path: Path) -> None:
    value = {"tensor": torch.ones(50_000_000)}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    save_tensors(value, tmp_path / "state.pt")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 100_000
    assert (tmp_path / "state.pt").stat().st_size > 200_000_000
