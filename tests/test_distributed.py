"""Two processes on the CPU, joined by gloo, as several GPUs would be by NCCL."""

import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import runs
from run.folder import RunFolder
from run.ranks import spawn_ranks
from training_helpers import compose
from two_ranks import accumulate_gradients, compare_gradients, train, update_a_moved_component

pytestmark = pytest.mark.slow
TWO_CPUS = [torch.device("cpu")] * 2


def test_gradient_of_two_ranks_equals_the_one_of_the_joined_batch(tmp_path: Path) -> None:
    """Although the ranks' shares are padded differently."""
    assert spawn_ranks(TWO_CPUS, functools.partial(compare_gradients, tmp_path / "distances.json")) == 0
    for distances in json.loads((tmp_path / "distances.json").read_text()):
        assert distances.keys() == {"denoiser", "rew_end_model", "actor_critic"}
        assert max(distances.values()) < 1e-4


def test_ranks_share_gradients_of_a_component_that_was_moved(tmp_path: Path) -> None:
    assert spawn_ranks(TWO_CPUS, functools.partial(update_a_moved_component, tmp_path / "digests.json")) == 0
    first, second = json.loads((tmp_path / "digests.json").read_text())
    assert first == second


def test_gradients_are_exchanged_once_in_an_update(tmp_path: Path) -> None:
    """Not after each accumulated batch; and nothing is left of the exchange once the module rests."""
    assert spawn_ranks(TWO_CPUS, functools.partial(accumulate_gradients, tmp_path / "seen.json")) == 0
    slope = 1.0
    for first in (1, 4):
        # Ranks see x and x + 1; the loss of a batch is (slope · x)².
        squares = [x**2 for start in range(first, first + 3) for x in (start, start + 1)]
        slope -= 1e-3 * 2 * slope * sum(squares) / len(squares)
    for exchanges, seen, wrappers in json.loads((tmp_path / "seen.json").read_text()):
        assert (exchanges, wrappers) == (1, 0)
        assert seen == pytest.approx(slope, rel=1e-5)


def test_both_ranks_end_with_the_same_weights_and_data(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", compose()).path
    assert spawn_ranks(TWO_CPUS, functools.partial(train, folder)) == 0
    ranks = json.loads((folder / "ranks.json").read_text())
    assert len(set(ranks["digests"])) == 1
    assert ranks["lengths"][0] == ranks["lengths"][1]
    assert sum(ranks["lengths"][0]) == 70


def test_torchrun_can_be_stopped_and_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = [*runs.BREAKOUT, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, f"hydra.run.dir={folder}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [*torchrun, *runs.command(*settings, "training.num_final_epochs=400")[1:]]
    process = subprocess.Popen(
        command, env=runs.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    )
    while not (folder / "checkpoints" / "state.pt").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert "Stopped by SIGTERM. Resume with: " in output
    assert len(list(folder.parent.iterdir())) == 1
    resumed = runs.run([*torchrun, *runs.command("--resume", folder, "training.num_final_epochs=1")[1:]])
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "Final test return" in resumed.stdout
    # One rank can resume the run of two, which is finished.
    assert "This run is finished." in runs.resume(folder).stdout


def test_batches_must_be_shared_equally(tmp_path: Path) -> None:
    settings = [*runs.BREAKOUT, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, f"hydra.run.dir={tmp_path / 'run'}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    result = runs.run([*torchrun, *runs.command(*settings, "denoiser.training.batch_size=5")[1:]])
    assert result.returncode != 0
    assert "error: denoiser.training.batch_size=5 cannot be shared equally by 2 processes." in result.stderr


def test_sweeps_make_a_folder_for_each_run(tmp_path: Path) -> None:
    settings = [*runs.BREAKOUT, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, "collection.train.num_steps_total=40"]
    sweep = ["-m", *settings, "common.seed=0,1", "training.num_final_epochs=0", f"hydra.sweep.dir={tmp_path}"]
    result = runs.run(runs.command(*sweep))
    assert result.returncode == 0, result.stderr
    folders = [path.parent for path in sorted(tmp_path.glob("*/metrics.jsonl"))]
    assert [RunFolder.open(folder).load_config().common.seed for folder in folders] == [0, 1]
    assert runs.metrics(folders[0]) != runs.metrics(folders[1])
