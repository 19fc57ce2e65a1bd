"""The summary of a run, read from its files."""

import json
from pathlib import Path

import pytest

from algorithms.diamond import DEFINITION
from run.folder import RunFolder
from training.summary import next_commands, summarize


def test_before_and_after_need_two_evaluations(tmp_path: Path) -> None:
    folder, name = RunFolder(tmp_path), "denoiser/test/loss_denoising"
    lines = [{"epoch": 0, name: 2.0}, {"epoch": 4, name: 0.5}]
    folder.metrics.write_text(json.dumps(lines[0]) + "\n")
    assert "Denoiser test loss: 2.0000\n" in summarize(folder, DEFINITION.summary) + "\n"
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "Denoiser test loss: 2.0000 before, 0.5000 after" in summarize(folder, DEFINITION.summary)
    assert "Video" not in summarize(folder, DEFINITION.summary)


@pytest.mark.parametrize(("has_game", "how"), [(True, ""), (False, " --world")])
def test_the_next_commands_are_for_what_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_game: bool, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = next_commands(RunFolder(tmp_path / "my run"), has_game).splitlines()
    assert lines == [
        "Next:",
        "  python src/play.py --run 'my run'        (with --web: in a browser)",
        f"  python src/evaluate.py 'my run'{how}",
        "  python src/play.py --run 'my run' --video film.mp4",
        "  tensorboard --logdir 'my run/tensorboard'",
    ]
