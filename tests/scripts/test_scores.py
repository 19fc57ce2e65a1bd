"""Scores: the published aggregates, and the user's own runs in the same table."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import scores
from conftest import PROJECT

SETTINGS = "{algorithm: {name: diamond}, common: {seed: 0}, env: {train: {id: GAME}, test: {id: GAME}}}\n"


@dataclass(frozen=True)
class Result:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., Result]:
    """`python scripts/scores.py` with these arguments, in this process."""

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["scores.py", *map(str, arguments)])
        capfd.readouterr()
        try:
            code = scores.main()
        except SystemExit as leaving:
            code = leaving.code
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return call


def row(table: str, method: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| {method} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_published_aggregates(call: Callable[..., Result]) -> None:
    """Alonso et al. 2024, table 1: DIAMOND's mean 1.46, median 0.37, interquartile mean 0.64, 11 games above human."""
    result = call("--games")
    _, games, mean, median, iqm, interval, above = row(result.stdout, "DIAMOND")
    assert (games, above) == ("26", "11")
    assert [float(mean), float(median), float(iqm)] == pytest.approx([1.46, 0.37, 0.64], abs=0.005)
    low, high = [float(bound) for bound in interval.split(" to ")]
    assert 0.5 < low < float(iqm) < high < 0.8
    assert len([line for line in result.stdout.splitlines() if line.startswith("| Breakout ")]) == 1


def test_own_runs_are_a_row(tmp_path: Path, call: Callable[..., Result]) -> None:
    with open(PROJECT / "results" / "atari_100k_published.csv", newline="") as file:
        published = {(line["method"], line["game"]): float(line["score"]) for line in csv.DictReader(file)}
    random, human = published["Random", "Pong"], published["Human", "Pong"]
    folders = []
    for index, share in enumerate((0.5, 1.5)):
        folder = tmp_path / str(index)
        (folder / "config").mkdir(parents=True)
        (folder / "config" / "trainer.yaml").write_text(SETTINGS.replace("GAME", "PongNoFrameskip-v4"))
        line = {"epoch": 9, "collection/final/return_mean": random + share * (human - random)}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        folders.append(folder)
    result = call(*folders, "--figure", tmp_path / "figure.png")
    assert row(result.stdout, "This project")[1:4] == ["1", "1.000", "1.000"]
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_mistakes(tmp_path: Path, call: Callable[..., Result]) -> None:
    def complaint(*arguments: str | Path) -> str:
        result = call(*arguments)
        assert result.returncode == 2
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        return result.stderr

    assert f"{tmp_path} is not a run folder" in complaint(tmp_path)
    (tmp_path / "config").mkdir()
    config, metrics = tmp_path / "config" / "trainer.yaml", tmp_path / "metrics.jsonl"
    config.write_text("algorithm: {name: diamond}\n")
    assert "lacks one of algorithm.name, common.seed, env.test.id" in complaint(tmp_path)
    config.write_text(SETTINGS.replace("GAME", "PongNoFrameskip-v4"))
    assert "is not finished" in complaint(tmp_path)
    metrics.write_text("[]\n")
    assert "metrics.jsonl is damaged: line 1 is not a JSON mapping" in complaint(tmp_path)
    metrics.write_text('{"epoch": 9, "collection/final/return_mean": 3}\n')
    config.write_text(SETTINGS.replace("GAME", "TetrisNoFrameskip-v4"))
    assert "There is no human score for Tetris" in complaint(tmp_path)
    assert "--help lists all options" in complaint("--unknown")
