"""`scripts/compare.py`: curves against hand-computed numbers, runs of any algorithm, and unfinished ones."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import compare
import runs
from evaluation.comparison import band, comparison_table
from evaluation.histories import read_history
from evaluation.published import read_published
from evaluation.records import append_record, read_records
from evaluation.statistics import mean_interval, probability_of_improvement
from training_helpers import train

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Command:
    """`python scripts/compare.py` with these arguments, in this process: exit code, output and errors."""

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        capfd.readouterr()
        try:
            code = compare.main()
        except SystemExit as leaving:
            code = leaving.code
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return command


def write_run(path: Path, seed: int, lines: list[dict[str, float]], algorithm: str = "diamond", rest: str = "") -> Path:
    """The files of a run on Pong."""
    (path / "config").mkdir(parents=True)
    env = "{id: PongNoFrameskip-v4}"
    settings = f"{{algorithm: {{name: {algorithm}}}, common: {{seed: {seed}}}, env: {{train: {env}, test: {env}}}}}\n"
    (path / "config" / "trainer.yaml").write_text(settings)
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + rest)
    return path


def lines_of(returns: dict[int, float], hours_per_epoch: float, num_epochs: int) -> list[dict[str, float]]:
    """The log of an algorithm with one component, and 100 steps an epoch."""
    lines = [{"epoch": 0, "collection/test/return_mean": returns[0]}] if 0 in returns else []
    for epoch in range(1, num_epochs + 1):
        lines.append({"epoch": epoch, "collection/train/num_steps": 100.0 * epoch})
        lines.append({"epoch": epoch, "policy/train/entropy": 1.0, "policy/train/loss": 1 / epoch})
        lines.append({"epoch": epoch, "time/policy/updates_per_second": 10.0 * epoch})
        if epoch in returns:
            lines.append({"epoch": epoch, "collection/test/return_mean": returns[epoch]})
        lines.append({"epoch": epoch, "time/seconds": 3600 * hours_per_epoch * epoch})
    return lines


def test_the_mean_of_curves() -> None:
    short = (np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 8.0]))
    long = (np.array([1.0, 2.0, np.nan, 6.0, 6.0]), np.array([3.0, 4.0, 9.0, 7.0, 8.0]))
    mean = band([short, long])
    # Both know the places from 1 to 4; at 6, the last value counts, so the second is 6 at 4.
    assert mean.x.tolist() == [1, 2, 4]
    assert mean.mean.tolist() == [2, 3, 7]
    assert list(zip(mean.low, mean.high, strict=True)) == [mean_interval(pair) for pair in ([1, 3], [2, 4], [8, 6])]
    alone = band([short])
    assert (alone.mean.tolist(), alone.low) == ([0, 2, 8], None)
    assert band([]) is None
    assert band([short, (np.array([np.nan]), np.array([1.0]))]) is None
    assert band([short, (np.array([5.0]), np.array([1.0]))]) is None


def test_a_curve_against_steps_and_hours(tmp_path: Path) -> None:
    lines = lines_of({0: -20.0, 2: -10.0, 4: 3.0}, 0.5, 3)
    # The fourth epoch is not over, and collects nothing.
    lines.append({"epoch": 4, "collection/test/return_mean": 3.0})
    history = read_history(write_run(tmp_path / "a", 0, lines, rest='{"epoch": 4, "coll'))
    curve = history.curve("collection/test/return_mean")
    assert curve.epochs.tolist() == [0, 2, 4]
    assert curve.steps.tolist() == [0, 200, 300]
    assert curve.hours.tolist()[:2] == [0, 1]
    assert np.isnan(curve.hours[2])
    assert curve.values.tolist() == [-20, -10, 3]
    assert (history.is_finished, history.final_return, history.latest_return) == (False, None, 3)
    # Logs of earlier versions have no times, and data sets have no steps.
    bare = read_history(write_run(tmp_path / "b", 0, [{"epoch": 1, "collection/test/return_mean": 1.0}]))
    assert np.isnan(bare.curve("collection/test/return_mean").hours).all()
    assert np.isnan(bare.curve("collection/test/return_mean").steps).all()


def test_the_table(tmp_path: Path) -> None:
    finals = (("a", 0, "diamond", 4.0), ("b", 1, "diamond", 8.0), ("c", 0, "other:DEFINITION", 1.0))
    for name, seed, algorithm, final in finals:
        lines = [*lines_of({4: 2.0}, 0.25, 4), {"epoch": 4, "collection/final/return_mean": final}]
        write_run(tmp_path / name, seed, lines[:-1] if name == "c" else lines, algorithm)
    for name, returns in (("a", [1.0, 2.0]), ("a", [3.0, 5.0]), ("b", [6.0, 6.0]), ("c", [5.0, 5.0])):
        append_record(tmp_path / name, {"player": "agent", "settings": {"env": "test"}, "returns": returns})
        append_record(tmp_path / name, {"player": "random", "settings": {"env": "test"}, "returns": [0.0]})
        append_record(tmp_path / name, {"player": "agent", "settings": {"env": "train"}, "returns": [99.0]})
    histories = [read_history(tmp_path / name) for name in ("a", "b", "c")]
    a, b, c, seeds, alone = comparison_table(histories, read_published())
    assert [row["agent"] for row in (a, b, c, seeds, alone)] == [
        *("diamond", "diamond", "other:DEFINITION"),
        *("diamond", "other:DEFINITION"),
    ]
    assert [row["run"] for row in (seeds, alone)] == ["all 2", "all 1"]
    assert [row["return"] for row in (a, b, c, seeds)] == [4, 8, 2, 6]
    assert [row["finished"] for row in (a, c, seeds)] == ["1 of 1", "0 of 1", "2 of 2"]
    assert seeds["return, 95% interval"] == mean_interval([4, 8])
    assert a["return, 95% interval"] is None
    assert [row["evaluated"] for row in (a, b, c, seeds)] == [4, 6, 5, 5]
    assert a["evaluated, 95% interval"] == mean_interval([3, 5])
    assert seeds["evaluated, 95% interval"] == mean_interval([4, 6])
    assert c["P(> first)"] == probability_of_improvement([5, 5], [3, 5]) == 0.75
    # 5 beats 3 and ties with 5, and loses against both sixes.
    assert alone["P(> first)"] == (2 + 1) / 8
    assert a["human normalised"] == pytest.approx((4 + 20.7) / 35.3)
    assert (a["epochs"], a["steps"], a["hours"]) == (4, 400, 1)
    assert (a["policy loss"], a["policy updates/s"]) == (1 / 4, 40)


def test_files_of_a_comparison(tmp_path: Path, command: Command) -> None:
    for seed, name in enumerate(("a", "b")):
        write_run(tmp_path / name, seed, lines_of({0: -20.0, 4: 2.0 * seed}, 0.25, 4 + seed), rest='{"epo')
    code, out, err = command(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out")
    assert code == 0, err
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert table in out
    assert "| all 2 " in table
    with open(tmp_path / "out" / "comparison.csv", newline="") as file:
        assert [float(row["return"]) for row in csv.DictReader(file)] == [0, 2, 1]
    with open(tmp_path / "out" / "curves.csv", newline="") as file:
        curves = [(row["against"], float(row["at"]), float(row["return"])) for row in csv.DictReader(file)]
    assert curves == [("steps", 0, -20), ("steps", 400, 1), ("hours", 0, -20), ("hours", 1, 1)]
    picture = np.asarray(Image.open(tmp_path / "out" / "comparison.png").convert("RGB"))
    # The colour of the first kind of agents is there, on white.
    assert (np.abs(picture.astype(int) - (31, 119, 180)).max(axis=-1) < 10).sum() > 200
    assert (picture == 255).mean() > 0.5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("comparison.md", "comparison.csv", "comparison.png", "curves.csv"),
    }


def test_a_real_run(tmp_path: Path, command: Command) -> None:
    folder = train(tmp_path / "run", "training.model_free=true", game=runs.CHASE).folder.path
    history = read_history(folder)
    assert history.is_finished
    curve = history.curve("collection/test/return_mean")
    assert curve.epochs.tolist() == [0, 2, 4]
    assert curve.hours[0] == 0 < curve.hours[1] < curve.hours[2]
    code, out, err = command(folder, f"{folder}/../{folder.name}")
    assert code == 0, err
    assert out.count("| pixel_game:Chase-v0 | diamond |") == 1


def test_mistakes(tmp_path: Path, command: Command) -> None:
    def complaint(*arguments: str | Path) -> str:
        code, _, err = command(*arguments)
        assert (code, len(err.strip().splitlines())) == (2, 1), err
        return err

    assert "the following arguments are required: RUN_DIR" in complaint()
    assert f"{tmp_path} is not a run folder" in complaint(tmp_path)
    folder = write_run(tmp_path / "a", 0, [])
    assert f"None of these runs has metrics yet: {folder} has no line" in complaint(folder)
    for line in ("3", '{"a": 1}', '{"epoch": "x"}'):
        (folder / "metrics.jsonl").write_text(f"{line}\n")
        assert "metrics.jsonl is damaged: line 1 " in complaint(folder)
    (folder / "metrics.jsonl").unlink()
    (folder / "evaluation.jsonl").write_text('{"player": "agent"}\n')
    assert "evaluation.jsonl is damaged: line 1 has no list of returns" in complaint(folder)
    (folder / "evaluation.jsonl").write_text('{"player": "agent", "settings": 3, "returns": [1]}\n')
    assert "evaluation.jsonl is damaged: the settings in line 1 are 3" in complaint(folder)


def test_numbers_that_json_has_not_are_null(tmp_path: Path) -> None:
    append_record(tmp_path, {"returns": [1.0, float("inf"), float("nan")]})
    (record,) = read_records(tmp_path)
    assert record["returns"] == [1, None, None]
    assert record["time"].endswith("+00:00")
