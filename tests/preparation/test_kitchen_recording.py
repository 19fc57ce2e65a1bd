"""Scripted episodes in the simulated kitchen do what their motions are named after, by the real command."""

import sys
from pathlib import Path

import numpy as np
import pytest

import make_kitchen_data
from envs.kitchen import make_kitchen
from envs.kitchen_motions import TASKS
from kitchen_data import require_opengl
from preparation.kitchen_recording import record_episode
from preparation.minari_source import MinariSource


@pytest.mark.slow
def test_scripted_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    require_opengl()
    out = tmp_path / "kitchen"
    monkeypatch.setattr(sys, "argv", ["make_kitchen_data.py", str(out), "--episodes", "4", "--seed", "3"])
    assert make_kitchen_data.main() == 0
    words = capfd.readouterr().out
    assert "both: 1 episodes" in words
    assert "each completes kettle and slide cabinet" in words
    source = MinariSource(out / "data")
    episodes = [source.load(index) for index in range(4)]
    assert [set(each.first_completions()) for each in episodes] == [set(tasks) for tasks in TASKS.values()]
    for episode in episodes:
        assert 30 < len(episode) <= 450
        assert np.abs(episode.actions).max() <= 1
        assert episode.trunc.tolist() == [0] * (len(episode) - 1) + [1]
        # The arm moves in front of the cupboards all the time.
        assert np.ptp(episode.observations["observation"][:, :7], axis=0).max() > 0.5
    # The same seed draws the same episode, in a kitchen that was not used before.
    again = record_episode(make_kitchen(), "free", (3, 3))
    assert again.seed == episodes[3].seed
    assert np.array_equal(again.actions, episodes[3].actions)
    # Nothing is overwritten.
    assert make_kitchen_data.main() == 2
    assert f"{out} exists: remove it, or name another folder" in capfd.readouterr().err
