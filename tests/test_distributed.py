"""Two processes on the CPU, joined by gloo, as several GPUs would be by NCCL."""

import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import runs
from conftest import PROJECT
from run.folder import RunFolder
from run.ranks import spawn_ranks
from training_helpers import compose
from two_ranks import (
    accumulate_gradients,
    compare_gradients,
    fail_alone,
    fail_on_first,
    train,
    update_a_moved_component,
)

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


def test_an_error_on_the_first_rank_alone_ends_all(tmp_path: Path) -> None:
    assert spawn_ranks(TWO_CPUS, functools.partial(fail_alone, tmp_path / "code")) == 2
    assert (tmp_path / "code").read_text() == "2"


def test_both_ranks_end_with_the_same_weights_and_data(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", compose()).path
    assert spawn_ranks(TWO_CPUS, functools.partial(train, folder)) == 0
    ranks = json.loads((folder / "ranks.json").read_text())
    assert len(set(ranks["digests"])) == 1
    assert ranks["lengths"][0] == ranks["lengths"][1]
    assert sum(ranks["lengths"][0]) == 70


def test_the_error_of_a_rank_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert spawn_ranks(TWO_CPUS, fail_on_first) == 1
    assert capfd.readouterr().err.count("ValueError: the first rank fails") == 1


TORCHRUN = [PROJECT / "scripts" / "torchrun.py", "--nproc-per-node=2", "--standalone"]
LONG = "training.num_final_epochs=400"


def settings(folder: Path) -> list[str]:
    return [*runs.BREAKOUT, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, LONG, f"hydra.run.dir={folder}"]


def spawned(folder: Path) -> list[subprocess.Popen[str]]:
    path = os.pathsep.join([str(PROJECT / "src"), str(PROJECT / "tests"), runs.environment()["PYTHONPATH"]])
    return [launch([PROJECT / "tests" / "two_cpus.py", folder, LONG], PYTHONPATH=path)]


def torchrun(folder: Path) -> list[subprocess.Popen[str]]:
    return [launch([*TORCHRUN, *runs.command(*settings(folder))[1:]])]


def srun(folder: Path) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    command = runs.command(*settings(folder))[1:]
    return [launch(command, **place, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]


def launch(command: list[str | Path], **env: str) -> subprocess.Popen[str]:
    """Start a process in a group of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, *command],
        env={**runs.environment(), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("start", [spawned, torchrun, srun])
def test_a_signal_to_the_group_stops_all_ranks(
    start: Callable[[Path], list[subprocess.Popen[str]]], tmp_path: Path
) -> None:
    """At a random moment, perhaps before any checkpoint, and once the first checkpoint is there."""
    rng = random.Random(start.__name__)
    for number, is_early in ((signal.SIGINT, False), (signal.SIGTERM, True)):
        folder = tmp_path / number.name
        processes = start(folder)
        while not is_early and not (folder / "checkpoints" / "state.pt").exists():
            assert processes[0].poll() is None, processes[0].stdout.read()
            time.sleep(0.05)
        time.sleep(rng.uniform(1, 15) if is_early else rng.uniform(0, 1))
        for process in processes:
            os.killpg(process.pid, number)
        output = "".join(process.communicate(timeout=300)[0] for process in processes)
        codes = {process.returncode for process in processes}
        assert codes <= {128 + number, -number}, output
        for words in ("Traceback", "race condition", "Error"):
            assert words not in output, output
        if (folder / "checkpoints" / "state.pt").exists():
            assert codes == {128 + number}
            assert output.count(f"Stopped by {number.name}. Resume with: ") == 1
            assert output.count("Stopped") == 1


def test_torchrun_resumes_what_it_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (process,) = torchrun(folder)
    while not (folder / "checkpoints" / "state.pt").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 129
    assert "Stopped by SIGHUP. Resume with: " in output
    assert len(list(folder.parent.iterdir())) == 1
    resume = runs.command("--resume", folder, "training.num_final_epochs=1")
    resumed = runs.run([sys.executable, *TORCHRUN, *resume[1:]])
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "Final test return" in resumed.stdout
    # One rank can resume the run of two, which is finished.
    assert "This run is finished." in runs.resume(folder).stdout


def test_a_mistake_is_one_line_of_torchrun(tmp_path: Path) -> None:
    """Also if only the first rank can find it."""
    folder = tmp_path / "run"
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "trainer.yaml").write_text("a: 1")
    result = runs.run([sys.executable, *TORCHRUN, *runs.command(*settings(folder))[1:]])
    assert result.returncode == 2, result.stderr
    assert len([line for line in result.stderr.splitlines() if line.strip()]) == 1, result.stderr
    assert "already holds a run" in result.stderr


def test_batches_must_be_shared_equally(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = runs.command(*settings(tmp_path / "run"), "denoiser.training.batch_size=5")
    result = runs.run([*torchrun, *command[1:]])
    assert result.returncode != 0
    assert "error: denoiser.training.batch_size=5 cannot be shared equally by 2 processes." in result.stderr


def test_sweeps_make_a_folder_for_each_run(tmp_path: Path) -> None:
    short = [*runs.BREAKOUT, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, "collection.train.num_steps_total=40"]
    sweep = ["-m", *short, "common.seed=0,1", "training.num_final_epochs=0", f"hydra.sweep.dir={tmp_path}"]
    result = runs.run(runs.command(*sweep))
    assert result.returncode == 0, result.stderr
    folders = [path.parent for path in sorted(tmp_path.glob("*/metrics.jsonl"))]
    assert [RunFolder.open(folder).load_config().common.seed for folder in folders] == [0, 1]
    assert runs.metrics(folders[0]) != runs.metrics(folders[1])
