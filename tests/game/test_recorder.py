"""Recorders that store in the same data set at the same time."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from data import Dataset
from game.recorder import Recorder


def record(root: Path, brightness: int, count: int) -> Recorder:
    """Record episodes of two steps, whose frames tell by brightness who recorded them."""
    recorder, frame = Recorder(root), torch.full((3, 4, 4), brightness, dtype=torch.uint8)
    for _ in range(count):
        for is_last in (False, True):
            recorder.add("test_H", frame, 1, (0.0, is_last, False), frame)
    return recorder


def test_two_recorders_keep_everything(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        recorders = list(pool.map(lambda brightness: record(tmp_path, brightness, 20), (1, 2)))
    episodes = list(Dataset.open(tmp_path / "rec_test_H").episodes())
    assert sorted(int(episode.obs[0, 0, 0, 0]) for episode in episodes) == [1] * 20 + [2] * 20
    assert [recorder.counts for recorder in recorders] == [{"rec_test_H": 40}] * 2


def test_a_recorder_adds_to_what_another_one_has_stored_since(tmp_path: Path) -> None:
    first = record(tmp_path, 1, 1)
    record(tmp_path, 2, 2)
    first.add("test_H", torch.zeros(3, 4, 4, dtype=torch.uint8), 1, (0.0, True, False), torch.zeros(3, 4, 4).byte())
    assert Dataset.open(tmp_path / "rec_test_H").lengths == [2, 2, 2, 1]


def test_a_data_set_is_opened_once_while_nobody_else_adds_to_it(tmp_path: Path) -> None:
    """An episode is stored as fast after many others as after the first."""
    recorder = record(tmp_path, 1, 1)
    episode = Dataset.open(tmp_path / "rec_test_H").episode_path(0)
    episode.write_bytes(b"damaged")
    frame = torch.zeros(3, 4, 4, dtype=torch.uint8)
    recorder.add("test_H", frame, 1, (0.0, True, False), frame)
    assert (recorder.status, recorder.counts) == (("recording", "saved"), {"rec_test_H": 2})


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Folders below which nothing can be written, as if their disk were full."""
    full, replace = [tmp_path / "run"], os.replace

    def fill(source: Path, target: Path) -> None:
        if any(Path(target).is_relative_to(folder) for folder in full):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr("os.replace", fill)
    return full


def test_a_full_disk_loses_nothing(tmp_path: Path, full_disk: list[Path]) -> None:
    recorder = record(tmp_path / "run", 7, 3)
    (status,) = recorder.status
    assert status.startswith("not saved, 3 episodes kept in memory (s: try again): The disk is full (No space left")
    full_disk.clear()
    recorder.store()
    assert recorder.status == ("recording", "saved")
    assert Dataset.open(tmp_path / "run" / "rec_test_H").lengths == [2, 2, 2]


def test_what_finds_no_room_in_the_end_goes_elsewhere(
    tmp_path: Path, full_disk: list[Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    recorder = record(tmp_path / "run", 7, 2)
    recorder.close()
    warning = capfd.readouterr().err.strip()
    elsewhere = Path(warning.split("The last recordings are in ")[1].removesuffix("."))
    assert Dataset.open(elsewhere / "rec_test_H").lengths == [2, 2]
    # A frame that is computed after the player left is not recorded.
    recorder.add("test_H", torch.zeros(3, 4, 4).byte(), 1, (0.0, True, False), torch.zeros(3, 4, 4).byte())
    assert Dataset.open(elsewhere / "rec_test_H").lengths == [2, 2]
    assert "\n" not in warning
