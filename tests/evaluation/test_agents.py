"""`python src/evaluate.py` on every kind of run: what it prints, keeps and films."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pygame
import pytest
import torch
from omegaconf import OmegaConf

import pixel_game
import runs
from algorithms import read_settings
from data import Actions
from evaluation import sources
from evaluation.episodes import Playing, play_at_random
from evaluation.options import read_arguments
from evaluation.records import read_records
from evaluation.statistics import mean_interval, probability_of_improvement
from files import load_tensors
from game_runs import copy_run, make_agent, read_film, write_published_layout
from run.folder import RunFolder
from trained.source import load_source
from training_helpers import CPU, compose

Call = Callable[..., str]
FEW = ["--episodes", "5", "--num-envs", "3"]


def rows(printed: str) -> list[dict[str, str]]:
    """The rows of the Markdown table."""
    lines = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("|")]
    header, _, *cells = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(header, line, strict=True)) for line in cells]


def change(folder: Path, setting: str, value: object) -> None:
    """Change a setting of a run."""
    config = OmegaConf.load(folder / "config" / "trainer.yaml")
    OmegaConf.update(config, setting, value)
    OmegaConf.save(config, folder / "config" / "trainer.yaml")


def test_a_run_is_evaluated_and_the_results_are_kept(shared_run: RunFolder, tmp_path: Path, call: Call) -> None:
    folder = copy_run(shared_run, tmp_path / "run").path
    agent, random = rows(call(folder, *FEW))
    ours, chance = read_records(folder)
    assert (agent["game"], agent["agent"], agent["weights"], agent["episodes"]) == (
        *("Breakout", "diamond", "agent_epoch_00003"),
        "5",
    )
    assert random["agent"] == "random"
    assert len(ours["returns"]) == len(ours["lengths"]) == len(chance["returns"]) == 5
    returns = np.array(ours["returns"])
    assert (ours["player"], ours["weights"], ours["epoch"], ours["seed"]) == ("agent", "agent_epoch_00003", 3, 0)
    assert (chance["player"], chance["weights"]) == ("random", None)
    assert ours["device"] == "cpu"
    assert set(ours["lengths"]) == {40}
    assert ours["settings"]["env_id"] == "BreakoutNoFrameskip-v4"
    assert (ours["return_mean"], ours["return_std"]) == pytest.approx((returns.mean(), returns.std()))
    assert ours["return_interval"] == list(mean_interval(returns))
    assert agent["mean"] == f"{returns.mean():.3f}"
    assert agent["P(> random)"] == f"{probability_of_improvement(returns, chance['returns']):.3f}"
    assert agent["human normalised"] == f"{(returns.mean() - 1.7) / (30.5 - 1.7):.3f}"
    assert ours["commit"] is None or len(ours["commit"].removesuffix("-dirty")) == 40


@pytest.mark.slow
def test_the_same_evaluation_gives_the_same_numbers(shared_run: RunFolder, tmp_path: Path, call: Call) -> None:
    folder = copy_run(shared_run, tmp_path / "run").path
    # Long enough for the returns and lengths to differ between seeds.
    change(folder, "env.test.max_episode_steps", 120)
    for seed in (7, 7, 8):
        torch.manual_seed(seed + len(read_records(folder)))
        call(folder, "--episodes", "3", "--seed", str(seed))
    results = [(record["returns"], record["lengths"]) for record in read_records(folder)]
    agents, random = results[::2], results[1::2]
    assert agents[0] == agents[1] != agents[2]
    assert random[0] == random[1] != random[2]
    assert agents[0] != random[0]


def test_choosing_weights(shared_run: RunFolder, tmp_path: Path, call: Call) -> None:
    folder = copy_run(shared_run, tmp_path / "run")
    options = ["--episodes", "1", "--no-random"]
    assert [row["weights"] for row in rows(call(folder.path, "--episodes", "1", "--every", "1"))] == [
        *("agent_epoch_00001", "agent_epoch_00003", ""),
    ]
    # The random policy plays once for all weights of a run.
    assert [record["player"] for record in read_records(folder.path)] == ["agent", "random", "agent"]
    call(folder.path, *options, "--epoch", "1")
    call(folder.path, *options, "--best")
    shutil.rmtree(folder.agent_versions)
    # A run that is still in its fourth epoch.
    state = {"agent": load_tensors(folder.best_agent), "progress": {"epoch": 4, "phase": 1, "best_epoch": 2}}
    torch.save(state, folder.state)
    call(folder.path, *options)
    call(folder.path, *options, "--best")
    folder.best_agent.unlink()
    agents = [record for record in read_records(folder.path) if record["player"] == "agent"]
    seen = [(record["weights"], record["epoch"]) for record in agents]
    assert seen == [
        *(("agent_epoch_00001", 1), ("agent_epoch_00003", 3)),
        *(("agent_epoch_00001", 1), ("best", None), ("state", 3), ("best", 2)),
    ]


@pytest.mark.slow
def test_several_runs_in_one_table(shared_run: RunFolder, tmp_path: Path, call: Call) -> None:
    folders = []
    for seed in (0, 1):
        folders.append(copy_run(shared_run, tmp_path / f"seed_{seed}").path)
        change(folders[-1], "common.seed", seed)
    first, second, both, random = rows(call(*folders, "--episodes", "4"))
    assert [each["seed"] for each in (first, second, both, random)] == ["0", "1", "0, 1", ""]
    # The same weights play the same episodes.
    assert second["P(> first)"] == "0.500"
    assert both["run"] == "all 2"
    assert both["episodes"] == "8"
    assert both["mean"] == first["mean"]


def test_the_training_environment_and_greedy_actions(shared_run: RunFolder, tmp_path: Path, call: Call) -> None:
    folder = copy_run(shared_run, tmp_path / "run").path
    change(folder, "env.train.max_episode_steps", 40)
    call(folder, "--episodes", "4", "--num-envs", "2", "--env", "train", "--policy", "greedy")
    agent, random = [record["settings"] for record in read_records(folder)]
    assert (agent["env"], agent["policy"], agent["num_envs"]) == ("train", "greedy", 2)
    assert (random["env"], random["policy"]) == ("train", "random")
    # With lives as episodes there is no published score to compare with.
    assert read_records(folder)[0]["human_normalised"] is None


@pytest.mark.slow
def test_films(shared_run: RunFolder, tmp_path: Path, call: Call) -> None:
    folder = copy_run(shared_run, tmp_path / "run").path
    call(folder, *FEW, "--record", tmp_path / "films", "--no-random")
    films = sorted((tmp_path / "films").iterdir())
    assert [path.name.split("agent_")[1] for path in films] == [
        f"epoch_00003_episode_{number:03d}.mp4" for number in range(5)
    ]
    lengths = read_records(folder)[0]["lengths"]
    for path, length in zip(films, lengths, strict=True):
        assert len(read_film(path)) == length + 1
    assert read_film(films[0])[:, 20:].std() > 1


@pytest.mark.slow
def test_a_window_changes_nothing(
    shared_run: RunFolder, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_run(shared_run, tmp_path / "run").path
    call(folder, *FEW, "--no-random")
    shown = []
    flip = pygame.display.flip
    monkeypatch.setattr(pygame.display, "flip", lambda: (shown.append(pygame.display.get_surface().copy()), flip()))
    call(folder, *FEW, "--no-random", "--render")
    count = len(shown)
    # Five episodes of 40 steps in three environments are 80 steps, and each is drawn once. One more
    # drawing can come when the help goes away.
    assert 80 <= count <= 81
    assert len({pygame.image.tobytes(each, "RGB") for each in shown}) > 20

    def close_soon() -> None:
        if len(shown) == count + 10:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    monkeypatch.setattr(pygame.display, "flip", lambda: (shown.append(None), close_soon(), flip()))
    # The rest is played without the window.
    call(folder, *FEW, "--no-random", "--render")
    assert len(shown) == count + 10
    results = [(record["returns"], record["lengths"]) for record in read_records(folder)]
    assert results[0] == results[1] == results[2]


def test_the_published_layout(shared_run: RunFolder, tmp_path: Path, call: Call) -> None:
    published = tmp_path / "published"
    write_published_layout(published, shared_run)
    shutil.copytree(shared_run.path / "checkpoints", published / "checkpoints")
    change(published, "env.test.max_episode_steps", 40)
    agent, _ = rows(call(published, "--episodes", "2"))
    assert (agent["game"], agent["agent"], agent["weights"]) == ("Breakout", "diamond", "agent_epoch_00003")


def test_published_weights(tmp_path: Path, call: Call, complaint: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of the Hub's repository, with small networks and short games."""
    monkeypatch.setattr(sources, "PROJECT", tmp_path)
    snapshot, config = tmp_path / "copy" / "atari_100k", compose("env.train.size=64")
    for name in ("models", "config/agent", "config/env"):
        (snapshot / name).mkdir(parents=True)
    make_agent(read_settings(config)[1], Actions("numbered", 4), 0.1).save(snapshot / "models" / "Breakout.pt")
    OmegaConf.save(config.agent, snapshot / "config" / "agent" / "default.yaml")
    (snapshot / "config" / "env" / "atari.yaml").write_text(
        "train: {id: null, done_on_life_loss: true, size: 64, max_episode_steps: null}\n"
        "test: {id: '${..train.id}', done_on_life_loss: false, size: '${..train.size}', max_episode_steps: 30}\n"
    )
    agent, random = rows(call("--pretrained", "breakout", "--local-dir", tmp_path / "copy", "--episodes", "2"))
    assert (agent["weights"], agent["length"], random["length"]) == ("Breakout", "30.0", "30.0")
    assert len(read_records(tmp_path / "outputs" / "pretrained" / "Breakout")) == 2
    assert "There are no published weights of Brakout" in complaint("--pretrained", "Brakout")


def test_a_gymnasium_game(tmp_path: Path, call: Call) -> None:
    config = compose("training.model_free=true", game=runs.CHASE)
    folder, (_, typed) = RunFolder.create(tmp_path / "run", config), read_settings(config)
    make_agent(typed, Actions("numbered", 5), 0.1).save(folder.agent_version(2))
    agent, random = rows(call(folder.path, "--episodes", "12", "--trust"))
    assert agent["game"] == "pixel_game:Chase-v0"
    assert "human normalised" not in agent
    assert random["episodes"] == "12"


def test_the_random_policy_plays_as_another_program_computes(tmp_path: Path) -> None:
    config = compose(game=runs.CHASE)
    folder, (_, typed) = RunFolder.create(tmp_path / "run", config), read_settings(config)
    make_agent(typed, Actions("numbered", 5), 0.1).save(folder.agent_version(2))
    source = load_source(folder.path, None, False, trusts=True)
    playing = Playing(400, "test", 8, 0, is_greedy=False, device=CPU, precision="fp32")
    returns = np.array(play_at_random(source, playing).returns)
    expected = pixel_game.mean_random_return(400, seed=5)
    # 4 standard errors of the difference: fails by chance in one of 15,000 choices of the seeds.
    assert abs(returns.mean() - expected) < 4 * returns.std() * (2 / 400) ** 0.5


def test_weights_that_a_running_training_removes(
    shared_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    folder = copy_run(shared_run, tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(folder.path), "--every", "1"])
    found = sources.open_sources(read_arguments())
    assert next(found).epoch == 1
    folder.agent_version(3).unlink()
    assert list(found) == []
    assert "does not keep the weights of epoch 3 any more" in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_is_evaluated_by_its_own_copy_of_the_code(shared_run: RunFolder, tmp_path: Path) -> None:
    """In a process of its own, without the published scores, which are not copied."""
    folder = tmp_path / "run"
    shutil.copytree(shared_run.path, folder)
    command = [sys.executable, folder / "src" / "evaluate.py", "--device", "cpu", "--episodes", "2"]
    result = runs.run(command, cwd=folder)
    assert result.returncode == 0, result.stderr
    agent, random = rows(result.stdout)
    assert (agent["weights"], random["agent"]) == ("agent_epoch_00003", "random")
    assert "human normalised" not in agent
