"""`scripts/share.py`: what it writes, and that it can be played."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import play
import share
from agent import read_weights
from errors import UserError
from evaluation.records import append_record
from evaluation.world_report import write_json
from evaluation.world_statistics import Curve
from evaluation.world_summary import Metric
from files import load_tensors
from game_runs import call_door, make_run, read_film
from run.folder import RunFolder
from trained.pretrained import why_unreachable
from trained.source import load_source


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = make_run(tmp_path_factory.mktemp("sharing") / "run")
    record = {"player": "agent", "weights": "agent_epoch_00003", "returns": [1.0, 2.0, 3.0, 6.0], "settings": {}}
    append_record(folder.path, record)
    folder.metrics.write_text('{"epoch": 3, "denoiser/test/loss_denoising": 0.5}\n')
    (folder.media / "film.mp4").write_bytes(b"a film")
    metrics = [
        Metric("psnr", "dB", curves={"model": curve(30.25, 20, np.nan), "copy": curve(np.inf, 19.5, 18)}),
        Metric("controllability", "dB", curves={"model": curve(1, 2, 3)}),
    ]
    path = folder.path / "evaluation" / "agent_epoch_00003" / "world.json"
    write_json({"run": str(folder.path), "segments": 7}, metrics, np.full(10, 7), path)
    return folder


def curve(first: float, fifth: float, tenth: float) -> Curve:
    value = np.array([first, *[0.0] * 3, fifth, *[0.0] * 4, tenth])
    return Curve(value, value, value)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["share.py", *map(str, arguments)])
    return share.main()


@pytest.mark.slow
def test_the_folder_can_be_played(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    out = tmp_path / "shared"
    assert call(monkeypatch, run.path, "--repo", "me/breakout", "--dry-run", "--out", out) == 0
    models = out / "atari_100k" / "models"
    safe, plain = load_file(models / "Breakout.safetensors"), load_tensors(models / "Breakout.pt")
    assert safe.keys() == plain.keys()
    assert all(torch.equal(safe[name], plain[name]) for name in safe)
    assert (out / "film.mp4").read_bytes() == b"a film"
    assert "denoiser" in json.loads((out / "agent_config.json").read_text())
    card = (out / "README.md").read_text()
    assert "| return | 3.00 (95% interval " in card
    assert "| game | BreakoutNoFrameskip-v4 |" in card
    assert "| seed | 3 |" in card
    assert "| denoiser, test loss denoising | 0.5000 |" in card
    assert "| World, 7 segments | step 1 | step 5 | step 10 |\n|" in card
    assert "| PSNR | 30.2 | 20 | – |\n| PSNR, copy of the last frame | inf | 19.5 | 18 |\n" in card
    assert json.loads((out / "world.json").read_text())["metrics"]["controllability"]["model"]["value"][4] == 2
    for name in ("config/trainer.yaml", "world.json", "README.md"):
        assert str(run.path.parent) not in (out / name).read_text()
    # What was shared is played; there is no data with it, so real steps are made to start from.
    (models / "Breakout.pt").unlink()
    monkeypatch.setattr(play, "PROJECT", tmp_path)
    film = tmp_path / "a.mp4"
    assert call_door(monkeypatch, "-p", "--local-dir", out, "-n", "40", "--video", film, "--steps", "2") == 0
    assert len(read_film(film)) == 3
    assert (tmp_path / "outputs" / "pretrained" / "shared" / "dataset").is_dir()
    assert call(monkeypatch, run.path, "--repo", "me/breakout", "--dry-run", "--out", out) == 2
    assert "is not empty: remove it, or name another folder with --out" in capfd.readouterr().err


def test_without_a_token_nothing_is_written(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(share, "get_token", lambda: None)
    assert call(monkeypatch, run.path, "--repo", "me/breakout", "--out", tmp_path / "out") == 2
    assert "There is no token of the Hugging Face Hub" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_measurement_of_the_world(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    path = copy / "evaluation" / "agent_epoch_00003" / "world.json"
    too_few = '{"segments": 1, "metrics": {"psnr": {"model": {"value": [1, 2, 3, 4, 5]}, "copy": {"value": [1]}}}}'
    for content in ("[]", '{"metrics": 3}', '{"segments": 1, "metrics": {"psnr": 3}}', too_few, "{"):
        path.write_text(content)
        assert call(monkeypatch, copy, "--repo", "me/breakout", "--dry-run", "--out", tmp_path / "out") == 2
        (line,) = capfd.readouterr().err.strip().splitlines()
        assert line.startswith(f"error: {path} ")


def test_a_folder_that_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    assert call(monkeypatch, tmp_path, "--repo", "me/breakout", "--dry-run", "--out", tmp_path / "out") == 2
    assert capfd.readouterr().err.strip().startswith(f"error: {tmp_path} is not a run folder")


def test_an_upload_that_fails_can_be_tried_again(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(share, "get_token", lambda: "hf_nobody")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    out = tmp_path / "out"
    assert call(monkeypatch, run.path, "--repo", "me/breakout", "--out", out) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: me/breakout could not be uploaded: ")
    assert line.endswith(f"The folder is kept, so that `hf upload me/breakout {out}` can try again.")
    assert (out / "README.md").is_file()


def test_weights_of_a_run_as_safetensors(run: RunFolder, tmp_path: Path) -> None:
    weights = read_weights(run.agent_version(3))
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    assert all(torch.equal(value, weights[name]) for name, value in read_weights(path).items())
    run.agent_version(3).with_suffix(".safetensors").write_bytes(path.read_bytes())
    run.agent_version(3).rename(tmp_path / "away.pt")
    try:
        source = load_source(run.path, None, False)
        assert (source.weights_path.suffix, source.version, source.epoch) == (".safetensors", "agent_epoch_00003", 3)
    finally:
        (tmp_path / "away.pt").rename(run.agent_version(3))
        run.agent_version(3).with_suffix(".safetensors").unlink()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"weights.safetensors is damaged, or is no safetensors file"):
        read_weights(path)


def test_a_server_that_refuses_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trained.pretrained.getproxies", dict)
    assert why_unreachable("http://127.0.0.1:9") == "Connection refused"
