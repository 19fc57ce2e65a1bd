"""Data that stays on disk: small frames in episodes, full-size ones in HDF5 files."""

from pathlib import Path

import numpy as np
import pytest
import torch

import recordings
from data import Dataset, Episode, FullFrames, Replay, Segments, StoredReplay, segment_by_segment
from data.full_frames import FILE_ID, read_actions, read_frames, write_hdf5
from errors import UserError

LENGTHS = (7, 4, 9)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three episodes with multi-hot actions, one of which is over, and their recordings in full size."""
    dataset = Dataset(tmp_path / "small")
    for number, length in enumerate(LENGTHS):
        name = f"recording_{number}.hdf5"
        recordings.write_hdf5(tmp_path / "full" / "deep" / name, length, seed=number)
        flags = torch.zeros(length, dtype=torch.uint8)
        trunc = flags.clone()
        info: dict = {FILE_ID: name}
        if number == 1:
            trunc[-1] = 1
            info["final_observation"] = torch.randint(256, (3, 4, 5), dtype=torch.uint8)
        obs = torch.randint(256, (length, 3, 4, 5), dtype=torch.uint8)
        act = torch.randint(2, (length, 6), dtype=torch.uint8)
        dataset.add_episode(Episode(obs, act, torch.randn(length), flags, trunc, info))
    dataset.save_info()
    return dataset


SEGMENTS = Segments(np.array([0, 1, 2, 2, 1]), np.array([-2, 1, 3, 7, -1]), 5)


def test_batches_from_disk_equal_batches_from_memory(dataset: Dataset) -> None:
    episodes = list(dataset.episodes())
    replay = Replay(torch.device("cpu"))
    for episode in episodes:
        replay.add_episode(episode)
    stored, plain = StoredReplay(dataset), segment_by_segment(episodes, SEGMENTS)
    assert (stored.episode_lengths == replay.episode_lengths).all()
    for batch in (stored.gather(SEGMENTS), replay.gather(SEGMENTS)):
        for name in ("act", "rew", "end", "trunc", "mask_padding"):
            ours, theirs = getattr(batch, name), getattr(plain, name)
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs), name
        assert torch.equal(batch.frames, plain.frames)
        assert torch.equal(batch.final_obs[1], plain.final_obs[1])


def test_full_frames_match_their_steps(dataset: Dataset, tmp_path: Path) -> None:
    batch = FullFrames(tmp_path / "full", dataset).gather(SEGMENTS)
    assert batch.shape == (5, 5, 3, *recordings.FULL_SIZE)
    assert batch.dtype == torch.uint8
    for row, episode_id, start in zip(batch, SEGMENTS.episode_ids, SEGMENTS.starts, strict=True):
        frames, _ = recordings.play(LENGTHS[episode_id], seed=int(episode_id))
        for place, step in enumerate(range(start, start + 5)):
            inside = 0 <= step < LENGTHS[episode_id]
            wanted = frames[step] if inside else np.zeros_like(frames[0])
            assert (row[place].permute(1, 2, 0).numpy() == wanted).all()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    frames, actions = recordings.play(5, seed=0)
    write_hdf5(tmp_path / "a.hdf5", iter(frames), actions)
    assert (read_frames(tmp_path / "a.hdf5", range(5)).permute(0, 2, 3, 1).numpy() == frames).all()
    assert (read_actions(tmp_path / "a.hdf5").numpy() == actions).all()
    numbered = np.arange(5)
    write_hdf5(tmp_path / "b.hdf5", iter(frames), numbered)
    assert read_actions(tmp_path / "b.hdf5").tolist() == numbered.tolist()
    with pytest.raises(ValueError):
        write_hdf5(tmp_path / "c.hdf5", iter(frames[:4]), actions)
    # Nothing half is left.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdf5", "b.hdf5"]


def test_damaged_and_missing_recordings(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no .hdf5 files"):
        FullFrames(tmp_path / "small", dataset).gather(SEGMENTS)
    full = FullFrames(tmp_path / "full", dataset)
    path = tmp_path / "full" / "deep" / "recording_0.hdf5"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"recording_0.hdf5 is damaged"):
        full.gather(Segments(np.array([0]), np.array([0]), 2))
    path.unlink()
    with pytest.raises(UserError, match=r"has no file recording_0.hdf5, of which .*0.pt is the small copy"):
        FullFrames(tmp_path / "full", dataset).find(0)
    with pytest.raises(UserError, match="is damaged"):
        read_frames(tmp_path / "full" / "deep" / "recording_1.hdf5", [4])
    with pytest.raises(UserError, match="There is no file"):
        read_frames(path, [0])
