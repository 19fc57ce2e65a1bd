"""Run folders with unusual names and contents, and overrides on resuming."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import main
import runs
from files import load_tensors
from run.door import explain
from run.folder import RunFolder, resume_command
from run.log import read_metrics

pytestmark = pytest.mark.slow


def door(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, *arguments: str | Path) -> tuple[int, str, str]:
    """Call `python src/main.py` with these arguments in this process: the exit code, and what is printed."""
    monkeypatch.setattr(sys, "argv", ["main.py", *map(str, arguments)])
    capfd.readouterr()
    try:
        code = explain(main.main, "Stopped.")
    except SystemExit as leaving:
        code = leaving.code
    return code, *capfd.readouterr()


def complaint(result: tuple[int, str, str]) -> str:
    code, _, err = result
    lines = [line for line in err.splitlines() if line.strip()]
    assert (code, len(lines)) == (2, 1), err
    return lines[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder with `=` and a space in its name."""
    folder = tmp_path_factory.mktemp("finished") / "lr=1 e" / "run"
    settings = [*runs.BREAKOUT, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, f"hydra.run.dir='{folder}'"]
    result = runs.run(runs.command(*settings))
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "lr=1 e" / "run"
    shutil.copytree(finished, folder)
    return folder


def test_equals_sign_in_the_path(copy: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    assert runs.resume(copy).stdout.startswith("This run is finished.\nRun: ")
    code, out, _ = door(monkeypatch, capfd, "--resume", copy)
    assert (code, out.splitlines()[0]) == (0, "This run is finished.")
    environment = {**runs.environment(), "PYTHON": sys.executable}
    offered = subprocess.run(resume_command(RunFolder(copy)), shell=True, env=environment)
    assert offered.returncode == 0


def test_a_finished_run_continues_with_more_epochs(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    code, out, _ = door(monkeypatch, capfd, "--resume", copy, "common.device=cpu", "denoiser.training.batch_size=5")
    assert code == 0
    assert out.startswith("This run is finished. Ignored: common.device=cpu denoiser.training.batch_size=5 (training.")
    before = load_tensors(RunFolder(copy).state)["progress"]["epoch"]
    code, out, err = door(monkeypatch, capfd, "--resume", copy, "training.num_final_epochs=3")
    assert code == 0, err
    assert load_tensors(RunFolder(copy).state)["progress"]["epoch"] == before + 2
    assert out.count("Final test return") == 1
    finals = [line for line in read_metrics(RunFolder(copy).metrics) if "collection/final/return_mean" in line]
    assert [line["epoch"] for line in finals] == [before - 1, before + 1]
    assert door(monkeypatch, capfd, "--resume", copy)[1].startswith("This run is finished.\n")


def test_what_cannot_be_changed(copy: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    for override, words in (
        ("common.seed=9", "common.seed=9 comes too late: this run began with 3."),
        (copy.parent, "is not NAME=VALUE: one run is resumed at a time"),
        ("common.sed=9", "Key 'sed' is not in struct"),
        ("common.seed=[9", "is not NAME=VALUE in YAML: while parsing a flow sequence"),
        ("[=3", "'[=3' is not NAME=VALUE in YAML"),
    ):
        assert words in complaint(door(monkeypatch, capfd, "--resume", copy, override))
    assert door(monkeypatch, capfd, "--resume", copy, "common.seed=3")[0] == 0


def test_an_empty_folder_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("hydra.run.dir=", "hydra.run.dir=''"):
        settings = [*runs.BREAKOUT, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, name]
        assert "hydra.run.dir= is empty: name the folder" in complaint(door(monkeypatch, capfd, *settings))
    assert list(tmp_path.iterdir()) == []


def test_only_unfinished_files_of_the_run_are_removed(copy: Path) -> None:
    """Not a user's folder, nor what a person records meanwhile; test data can lie on another disk."""
    folder = RunFolder(copy)
    own = [copy / "checkpoints" / ".state.pt.12.part", copy / "media" / ".film.part.mp4", copy / ".curves.png.3.part"]
    others = [copy / "media" / ".notes.part.txt", copy / "dataset" / "rec_test_H" / ".info.pt.7.part"]
    for path in (*own, *others):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    folders = [copy / ".x.part.d", copy / "media" / ".y.7.part"]
    for path in folders:
        path.mkdir()
    folder.remove_parts()
    assert not any(path.exists() for path in own)
    assert all(path.exists() for path in (*others, *folders))


def test_test_data_behind_a_link(tmp_path: Path) -> None:
    alone, folder, elsewhere = tmp_path / "alone", tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "dataset").mkdir(parents=True)
    (folder / "dataset" / "test").symlink_to(elsewhere)
    for path in (alone, folder):
        result = runs.train(path)
        assert result.returncode == 0, result.stderr
    assert runs.content(folder) == runs.content(alone)
    assert (elsewhere / "info.pt").is_file()
