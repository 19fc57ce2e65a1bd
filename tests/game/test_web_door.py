"""`python src/play.py --web` as it is called: the URL that it prints, and how it ends."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import runs
from conftest import PROJECT
from data import Dataset
from game_runs import call_door
from run.folder import RunFolder
from web_client import get, look_until, shown, visit

WITHOUT_DISPLAY = {name: value for name, value in runs.environment().items() if name != "SDL_VIDEODRIVER"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_server_that_is_stopped_keeps_what_was_recorded(
    shared_run: RunFolder, tmp_path: Path, number: signal.Signals
) -> None:
    shutil.copytree(shared_run.path, tmp_path / "run")
    options = ["--run", tmp_path / "run", "--web", "--port", "0", "-r", "--env", "test", "--device", "cpu"]
    command = [sys.executable, PROJECT / "src" / "play.py", *options]
    process = subprocess.Popen(command, env=WITHOUT_DISPLAY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stdout if line.startswith("Open "))
        url = line.split()[1].replace("localhost", "127.0.0.1")
        assert get(url, "/").status == 403
        with visit(url) as socket:
            view = look_until(socket, lambda view: int(shown(view)["step"]) >= 5)
            assert "recording" in view["status"]
            process.send_signal(number)
            out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "rec_test_π holds 1 episode" in out
    assert "Traceback" not in err
    assert Dataset.open(tmp_path / "run" / "dataset" / "rec_test_π").num_steps >= 5


@pytest.mark.slow
def test_players_are_measured(
    shared_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    options = ["--web", "--benchmark", "5", "--max-players", "2", "--fps", "30"]
    assert call_door(monkeypatch, "--run", shared_run.path, *options) == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("player ")]
    assert len(lines) == 2
    assert all(" frames per second, latency " in line for line in lines)
