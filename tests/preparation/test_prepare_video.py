"""The real command makes data sets from videos with tables of actions; one is the example of docs/own-games.md."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runs
from conftest import PROJECT
from data import Dataset
from data.full_frames import FILE_ID, read_actions, read_frames
from envs.recorded import load_recorded_game
from errors import UserError
from preparation.videos import read_table, read_video
from run.media import write_video

ROOM = load_recorded_game("room")


def call(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return runs.run([sys.executable, str(PROJECT / "scripts" / script), *map(str, arguments)])


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example") / "videos"
    result = call("example_videos.py", folder, "--count", "12", "--frames", "9")
    assert result.returncode == 0, result.stderr
    return folder


def test_videos_become_a_data_set_in_two_sizes(videos: Path, tmp_path: Path) -> None:
    result = call("prepare_video.py", videos, tmp_path / "out", "--env", "room", "--full-size", "48x64")
    assert result.returncode == 0, result.stderr
    assert "Episodes: 11 to train on, 1 to test on" in result.stdout
    train = Dataset.open(tmp_path / "out" / "low_res" / "train")
    assert train.lengths == [9] * 11
    episode = train.load_episode(3)
    assert episode.info[FILE_ID] == "room_03.hdf5"
    assert episode.obs.shape == (9, 3, 24, 32)
    full = tmp_path / "out" / "full_res" / "room_03.hdf5"
    frames = read_frames(full, range(9))
    film = np.stack(list(read_video(videos / "room_03.mp4", (48, 64))))
    assert (frames.permute(0, 2, 3, 1).numpy() == film).all()
    # The box of the video is where the frames have it, small and large.
    assert abs(frames.float().mean() - episode.obs.float().mean()) < 1
    table = read_table(videos / "room_03.csv", ROOM.actions)
    assert (episode.act == table).all()
    assert (read_actions(full) == table).all()
    # Called again, nothing is written.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*") if path.name != "info.pt"}
    assert call("prepare_video.py", videos, tmp_path / "out", "--env", "room", "--full-size", "48x64").returncode == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*") if path.name != "info.pt"}
    assert after == before


def test_videos_in_one_size(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("room_00\nroom_05.mp4\n")
    arguments = (videos, tmp_path / "out", "--env", "room", "--test-list", tmp_path / "test.txt")
    result = call("prepare_video.py", *arguments)
    assert result.returncode == 0, result.stderr
    assert "Episodes: 10 to train on, 2 to test on" in result.stdout
    assert not (tmp_path / "out" / "full_res").exists()
    test = Dataset.open(tmp_path / "out" / "low_res" / "test")
    assert [test.load_episode(index).info[FILE_ID] for index in range(2)] == ["room_00.mp4", "room_05.mp4"]
    assert test.load_episode(0).obs.shape == (9, 3, 24, 32)


@pytest.mark.slow
def test_what_changed_is_read_again(videos: Path, tmp_path: Path) -> None:
    own = tmp_path / "videos"
    own.mkdir()
    for path in [*videos.glob("room_00.*"), *videos.glob("room_01.*")]:
        (own / path.name).write_bytes(path.read_bytes())
    arguments = (own, tmp_path / "out", "--env", "room", "--full-size", "48x64")
    assert call("prepare_video.py", *arguments).returncode == 0
    with open(own / "room_00.csv", "w", newline="") as file:
        csv.writer(file).writerows([["w"], *[[1]] * 9])
    assert call("prepare_video.py", *arguments).returncode == 0
    act = Dataset.open(tmp_path / "out" / "low_res" / "train").load_episode(0).act
    assert act[:, 0].tolist() == [1] * 9
    # Columns that are missing were never touched: a mouse that does not move.
    assert ROOM.actions.describe(act[0]) == "w"
    # Another layout with as many entries.
    layout = tmp_path / "mine.yaml"
    layout.write_text((PROJECT / "config" / "env" / "room.yaml").read_text().replace("[w, a, s, d]", "[a, w, s, d]"))
    arguments = (*arguments[:3], layout, *arguments[4:])
    assert call("prepare_video.py", *arguments).returncode == 0
    act = Dataset.open(tmp_path / "out" / "low_res" / "train").load_episode(0).act
    assert act[:, :2].tolist() == [[0, 1]] * 9
    # A recording that is damaged is made again.
    (tmp_path / "out" / "full_res" / "room_00.hdf5").write_bytes(b"no HDF5")
    assert call("prepare_video.py", *arguments).returncode == 0
    assert len(read_actions(tmp_path / "out" / "full_res" / "room_00.hdf5")) == 9
    # A video that is gone is not learnt from.
    (own / "room_01.mp4").unlink()
    result = call("prepare_video.py", *arguments)
    assert "Episodes: 1 to train on" in result.stdout


def test_every_frame_is_read_once_whatever_its_size(tmp_path: Path) -> None:
    frames = [np.full((20, 40, 3), 12 * index, np.uint8) for index in range(20)]
    write_video(frames, (20, 40), tmp_path / "a.mp4", fps=7)
    seen = np.stack(list(read_video(tmp_path / "a.mp4", (10, 30))))
    assert seen.shape == (20, 10, 30, 3)
    assert np.abs(seen.mean(axis=(1, 2, 3)) - 12 * np.arange(20)).max() < 4


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("mouse_x, w,left click,mouse_y\n-7,1,0,0\n,,,\n100,0,1,-3\n")
    act = read_table(path, ROOM.actions)
    assert [ROOM.actions.describe(row) for row in act] == ["w -8,+0", "", "left click +8,-4"]
    path.write_text("action\n3\n0\n2\n")
    assert read_table(path, None).tolist() == [3, 0, 2]
    for text, words in (
        ("w,x\n1,1\n", "a.csv has a column 'x', which is none of w, a, s, d, left click, mouse_x, mouse_y"),
        ("w,mose_x\n1,1\n", "Did you mean mouse_x"),
        ("w,a\n1,0\n1,yes\n", "a.csv, line 3: a is 'yes', and should be a number"),
        ("mouse_x\nnan\n", "a.csv, line 2: mouse_x is 'nan', and should be a number"),
        ("w\n1,0\n", "a.csv, line 2: there are more cells than columns"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            read_table(path, ROOM.actions)
    for word in ("-1", "1.7", "nan"):
        path.write_text(f"action\n{word}\n")
        with pytest.raises(UserError, match=f"action is '{word}', and should be the number of an action"):
            read_table(path, None)
    path.write_text("")
    with pytest.raises(UserError, match="needs a column action"):
        read_table(path, None)


@pytest.mark.slow
def test_mistakes(videos: Path, tmp_path: Path) -> None:
    own = tmp_path / "videos"
    own.mkdir()

    def complaint(*arguments: str | Path) -> str:
        result = call("prepare_video.py", own, tmp_path / "out", "--env", "room", *arguments)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        return result.stderr

    assert "There are no videos in" in complaint()
    (own / "room_00.mp4").write_bytes((videos / "room_00.mp4").read_bytes())
    assert "room_00.mp4 has no table of actions" in complaint()
    rows = (videos / "room_00.csv").read_text().splitlines(keepends=True)
    (own / "room_00.csv").write_text("".join(rows[:-2]))
    words = f"room_00.csv has 7 rows, but {own / 'room_00.mp4'} has 9 frames: it needs one row for each frame"
    assert words in complaint()
    assert words in complaint("--full-size", "48x64")
    assert "is not a multiple of the game's size 24x32, such as 120x160" in complaint("--full-size", "50x64")
    assert "50 is not a size such as 150x280" in complaint("--full-size", "50")
    (own / "room_00.csv").write_text("".join(rows))
    (own / "room_00.mp4").write_bytes(b"no video")
    assert "room_00.mp4 cannot be read as a video" in complaint()
