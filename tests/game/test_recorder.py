"""Recorders that store in the same data set at the same time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
