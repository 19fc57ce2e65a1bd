"""Memory, transfers and whole runs on a GPU."""

import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import runs
from benchmarks.rollout_profile import profile_rollout
from benchmarks.ways import QUICK, make_bench
from component import Component
from conftest import PROJECT
from data import Batch, Episode, Replay, Segments
from errors import UserError
from optimizers import OptimizerConfig, TrainingConfig
from run.device import choose_device
from run.ranks import Ranks, run_ranks, spawn_ranks
from two_ranks import Line, gather_tensors

pytestmark = pytest.mark.gpu


@pytest.fixture
def no_waiting() -> Iterator[Callable[[], None]]:
    """From its call to the end of the test, an error where the host waits for the GPU."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def test_every_process_works_on_its_own_gpu() -> None:
    last = torch.cuda.device_count() - 1
    assert run_ranks(f"cuda:{last}", lambda ranks: torch.cuda.current_device()) == last
    with pytest.raises(UserError, match="needs a GPU; only"):
        choose_device("cuda", local_rank=last + 1)


def test_gathered_tensors_are_in_main_memory(gpu: torch.device, tmp_path: Path) -> None:
    assert spawn_ranks([gpu] * 2, functools.partial(gather_tensors, tmp_path / "seen.json")) == 0
    assert json.loads((tmp_path / "seen.json").read_text()) == [["cpu", 0], ["cpu", 1], ["cpu", 1], ["cpu", 2]]


def test_batches_are_sent_without_waiting(gpu: torch.device, no_waiting: Callable[[], None]) -> None:
    frames, flags = torch.randint(256, (50, 3, 8, 8)).byte(), torch.zeros(50, dtype=torch.uint8)
    replay, in_main_memory = Replay(gpu), Replay(torch.device("cpu"))
    for each in (replay, in_main_memory):
        each.add_episode(Episode(frames, flags.long(), flags.float(), flags, flags))
    segments = Segments(np.array([0, 0]), np.array([3, 40]), 5)
    torch.cuda.synchronize()
    no_waiting()
    gathered, moved = replay.gather(segments), in_main_memory.gather(segments).to(gpu)
    torch.cuda.set_sync_debug_mode("default")
    assert isinstance(moved, Batch)
    assert torch.equal(gathered.obs, moved.obs)
    assert torch.equal(moved.obs[0].cpu(), frames[3:8])
    # On the way back, the host has to wait.
    assert torch.equal(gathered.to(torch.device("cpu")).obs[1], frames[40:45])


def test_a_resting_component_leaves_no_memory_behind(gpu: torch.device) -> None:
    schedule = {"start_after_epochs": 0, "steps_first_epoch": 0, "steps_per_epoch": 0, "lr_warmup_steps": 1}
    training = TrainingConfig(**schedule, batch_size=1, max_grad_norm=1.0)
    x = torch.ones(1, device=gpu)

    class Large(Line):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1 << 20))

    component = Component(
        "line",
        Large(),
        lambda: (x, {}),
        training,
        OptimizerConfig(1e-3, 0.0).make,
        torch.float32,
        Ranks(0, 1, gpu),
        rests_in_memory=True,
    )
    before = torch.cuda.memory_allocated(gpu)
    with component.at_work():
        component.update()
        assert torch.cuda.memory_allocated(gpu) > before + (1 << 22)
    assert torch.cuda.memory_allocated(gpu) < before + (1 << 20)


def test_the_host_does_not_wait_in_an_imagined_rollout(gpu: torch.device, tmp_path: Path) -> None:
    bench = make_bench(QUICK, gpu, False)
    assert "waits for a value: none." in profile_rollout(bench, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("compiles", ["false", "true"])
def test_a_run_can_be_stopped_resumed_and_played(tmp_path: Path, compiles: str) -> None:
    folder = tmp_path / "run"
    result = runs.train(folder, "common.device=cuda:0", f"training.compile={compiles}")
    assert result.returncode == 0, result.stderr
    resumed = runs.resume(folder)
    assert resumed.returncode == 0, resumed.stderr
    command = [sys.executable, PROJECT / "src" / "play.py", "--run", folder, "--device", "cuda:0"]
    film = runs.run([*command, "--video", tmp_path / "film.mp4", "--steps", "5"])
    assert film.returncode == 0, film.stderr
    assert (tmp_path / "film.mp4").exists()
