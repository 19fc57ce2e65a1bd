"""The comparison of EDM and DDPM, on a small scale."""

import json
import sys
from pathlib import Path

import pytest

import parameterisations

pytestmark = pytest.mark.slow


def test_every_agent_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compare(monkeypatch, tmp_path)
    assert [(each["agent"], each["num_steps"]) for each in found] == [
        (agent, steps) for agent in parameterisations.AGENTS for steps in (1, 2)
    ]
    assert all(len(each["curves"]["psnr"]) == 3 for each in found)
    # All imagine the same segments.
    assert len({tuple(each["copy"]["psnr"]) for each in found}) == 1
    table = (tmp_path / "Chase-v0.md").read_text().splitlines()
    assert len(table) == 2 + len(found) + 1
    assert (tmp_path / "Chase-v0.png").is_file()
    # With other noise in training, EDM alone.
    chosen = ["--predictions", "EDM", "--set", "denoiser.sigma_distribution.loc=1.2"]
    other = compare(monkeypatch, tmp_path / "other", *chosen)
    assert [(each["agent"], each["num_steps"]) for each in other] == [("EDM", 1), ("EDM", 2)]
    assert other[0]["copy"] == found[0]["copy"]
    assert other[0]["curves"] != found[0]["curves"]


def compare(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> list[dict]:
    words = "--updates 2 --steps 60 --horizon 3 --segments 3 --sampling-steps 1 2 --device cpu --output"
    monkeypatch.setattr(sys, "argv", ["parameterisations.py", *words.split(), str(folder), *more])
    parameterisations.main()
    return json.loads((folder / "Chase-v0.json").read_text())["drift"]
