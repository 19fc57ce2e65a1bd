"""Archives of recordings become a data set, by the real command."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import recordings
import runs
from conftest import PROJECT
from data import Dataset
from data.full_frames import FILE_ID, list_hdf5
from errors import UserError
from files import natural_order
from preparation.archives import SMALL_SHARE, _bytes_needed
from preparation.recordings import check_space, choose_test_names, shrink

SCRIPT = PROJECT / "scripts" / "prepare_csgo.py"


def prepare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return runs.run([sys.executable, str(SCRIPT), "--workers", "2", *map(str, arguments)])


def small_files(out: Path) -> dict[str, int]:
    """The episodes' files, and when each was written."""
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.glob("low_res/*/*/*/*/*.pt")}


def test_archives_become_a_data_set(tmp_path: Path) -> None:
    names = recordings.write_tars(tmp_path / "tars", [8, 4])
    out = tmp_path / "out"
    result = prepare(tmp_path / "tars", out)
    assert result.returncode == 0, result.stderr
    assert "Archives: 2 unpacked\nEpisodes: 11 to train on, 1 to test on\n" in result.stdout
    assert [path.name for path in list_hdf5(out / "full_res")] == names
    # Every eleventh by number, not by letters.
    assert Dataset.open(out / "low_res" / "test").load_episode(0).info[FILE_ID] == "hdf5_dm_july2021_11.hdf5"
    train = Dataset.open(out / "low_res" / "train")
    assert train.info.is_static
    assert train.lengths == [6] * 11
    for episode_id, number in enumerate([*range(1, 11), 12]):
        episode = train.load_episode(episode_id)
        frames, actions = recordings.play(6, seed=number)
        assert episode.info[FILE_ID] == f"hdf5_dm_july2021_{number}.hdf5"
        assert episode.obs.shape == (6, 3, 30, 56)
        assert (episode.act.numpy() == actions).all()
        # Bicubic, as another library does it.
        theirs = np.asarray(Image.fromarray(frames[2]).resize((56, 30), Image.Resampling.BICUBIC))
        assert np.abs(episode.obs[2].permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 1
    # Nothing is done twice, and nothing asked.
    before = small_files(out)
    assert prepare(tmp_path / "tars", out).returncode == 0
    assert small_files(out) == before
    assert len(list((tmp_path / "tars").iterdir())) == 2


@pytest.mark.slow
def test_named_test_split_and_removed_archives(tmp_path: Path) -> None:
    recordings.write_tars(tmp_path / "tars", [3, 1])
    (tmp_path / "test.txt").write_text("hdf5_dm_july2021_2.hdf5\n\nhdf5_dm_july2021_4\n")
    result = prepare(tmp_path / "tars", tmp_path / "out", "--test-list", tmp_path / "test.txt", "--remove-tars")
    assert result.returncode == 0, result.stderr
    assert "Archives: 2 unpacked and removed" in result.stdout
    assert list((tmp_path / "tars").iterdir()) == []
    test = Dataset.open(tmp_path / "out" / "low_res" / "test")
    assert [test.load_episode(index).info[FILE_ID] for index in range(2)] == [
        "hdf5_dm_july2021_2.hdf5",
        "hdf5_dm_july2021_4.hdf5",
    ]
    # Another split later: episodes that changed place are written again, and those that are left over are removed.
    (tmp_path / "test.txt").write_text("hdf5_dm_july2021_1\n")
    assert prepare(tmp_path / "tars", tmp_path / "out", "--test-list", tmp_path / "test.txt").returncode == 0
    test, train = [Dataset.open(tmp_path / "out" / "low_res" / split) for split in ("test", "train")]
    assert [test.load_episode(0).info[FILE_ID], test.num_episodes, train.num_episodes] == [
        "hdf5_dm_july2021_1.hdf5",
        1,
        3,
    ]
    assert not test.episode_path(1).exists()
    (tmp_path / "test.txt").write_text("hdf5_dm_july2021_9\n")
    result = prepare(tmp_path / "tars", tmp_path / "out", "--test-list", tmp_path / "test.txt")
    assert result.returncode == 2
    assert "test.txt names hdf5_dm_july2021_9, which is not among the 4 recordings." in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_where_it_was_stopped(tmp_path: Path, number: signal.Signals) -> None:
    recordings.write_tars(tmp_path / "tars", [12, 12], num_steps=60)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert prepare(tmp_path / "tars", whole).returncode == 0
    for wait in (1.5, 2.5, 3.5, 4.5):
        command = [sys.executable, str(SCRIPT), str(tmp_path / "tars"), str(stopped), "--workers", "2"]
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
        time.sleep(wait)
        os.killpg(process.pid, number)
        _, complaint = process.communicate(timeout=60)
        assert process.returncode in (0, -number, 130)
        if process.returncode == 130:
            assert "Stopped. Call it again to resume." in complaint
    assert prepare(tmp_path / "tars", stopped).returncode == 0
    assert small_files(stopped).keys() == small_files(whole).keys()
    for split in ("train", "test"):
        theirs, ours = [Dataset.open(folder / "low_res" / split) for folder in (whole, stopped)]
        assert ours.lengths == theirs.lengths
        for mine, other in zip(ours.episodes(), theirs.episodes(), strict=True):
            assert torch.equal(mine.obs, other.obs)
            assert torch.equal(mine.act, other.act)


@pytest.mark.slow
def test_mistakes(tmp_path: Path) -> None:
    recordings.write_tars(tmp_path / "tars", [2])
    tar = next((tmp_path / "tars").iterdir())
    shutil.copy(tar, tmp_path / "tars" / "hdf5_dm_july2021_3_to_4.tar")
    damaged = tmp_path / "tars" / "hdf5_dm_july2021_5_to_6.tar"
    damaged.write_bytes(tar.read_bytes()[:700])
    for arguments, words in (
        ((tmp_path / "nowhere", tmp_path / "out"), "There is no folder"),
        ((tmp_path / "tars", tmp_path / "out"), "hdf5_dm_july2021_5_to_6.tar is damaged"),
        ((tmp_path, tmp_path / "empty"), "There are no recordings: "),
        ((tmp_path / "tars", tmp_path / "out", "--env", "atari"), "describes no recorded game"),
    ):
        result = prepare(*arguments)
        assert result.returncode == 2
        assert words in result.stderr
        assert "Traceback" not in result.stderr
    damaged.unlink()
    assert "holds two files named hdf5_dm_july2021_1.hdf5" in prepare(tmp_path / "tars", tmp_path / "out").stderr
    shutil.rmtree(tmp_path / "out" / "full_res" / "hdf5_dm_july2021_3_to_4")
    (tmp_path / "tars" / "hdf5_dm_july2021_3_to_4.tar").unlink()
    # One damaged recording does not keep the others from being done, nor from being counted.
    (tmp_path / "out" / "full_res" / "hdf5_dm_july2021_0.hdf5").write_bytes(b"no HDF5")
    result = prepare(tmp_path / "tars", tmp_path / "out")
    assert result.returncode == 0
    assert "warning: left out: " in result.stderr
    assert "hdf5_dm_july2021_0.hdf5 is damaged" in result.stderr
    assert "Episodes: 2 to train on, 0 to test on" in result.stdout
    assert len(small_files(tmp_path / "out")) == 2


@pytest.mark.slow
def test_only_whole_archives_of_recordings_are_removed(tmp_path: Path) -> None:
    recordings.write_tars(tmp_path / "tars", [3])
    (tar,) = (tmp_path / "tars").iterdir()
    whole = tar.read_bytes()
    with tarfile.open(tmp_path / "tars" / "backup.tar", "w") as archive:
        archive.add(__file__, "notes.txt")
    with tarfile.open(tar) as archive:
        second = [member.offset for member in archive][1]
    # Cut between two members, inside a header, inside a member, and before the mark of the end.
    for length in (second, second + 100, second + 1000, len(whole) - 10240):
        tar.write_bytes(whole[:length])
        result = prepare(tmp_path / "tars", tmp_path / "out", "--remove-tars")
        assert result.returncode == 2
        assert f"{tar} is damaged" in result.stderr
        assert tar.exists()
    tar.write_bytes(whole)
    assert prepare(tmp_path / "tars", tmp_path / "out", "--remove-tars").returncode == 0
    assert [path.name for path in (tmp_path / "tars").iterdir()] == ["backup.tar"]
    assert "0 is not a number of processes" in prepare(tmp_path / "tars", tmp_path / "out", "--workers", "0").stderr


def test_archives_that_go_need_no_second_place(tmp_path: Path) -> None:
    tars = []
    for number in range(5):
        tars.append(tmp_path / f"{number}.tar")
        tars[-1].write_bytes(bytes(1000 * (number + 1)))
    small = SMALL_SHARE * 15_000
    assert _bytes_needed(tars, tmp_path / "full", False, 2) == int(15_000 + small)
    assert _bytes_needed(tars, tmp_path / "full", True, 2) == int(9_000 + small)


def test_space_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    check_space(tmp_path / "not" / "there" / "yet", 10**6)
    with pytest.raises(UserError, match=r"needs 2.0 GB, and 0.0 GB are free"):
        check_space(tmp_path, 2 * 10**9)


def test_every_eleventh_is_test_data() -> None:
    names = [f"hdf5_dm_july2021_{number}.hdf5" for number in range(1, 5504)]
    chosen = choose_test_names(names[::-1], None)
    assert len(chosen) == 500
    assert sorted(chosen, key=natural_order)[:2] == ["hdf5_dm_july2021_11.hdf5", "hdf5_dm_july2021_22.hdf5"]


def test_shrinking_keeps_what_is_even() -> None:
    frames = torch.full((2, 3, 150, 280), 255, dtype=torch.uint8)
    assert (shrink(frames, (30, 56)) == 255).all()
