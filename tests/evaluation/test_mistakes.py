"""Every mistake in evaluating agents is one clear line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import recordings
import runs
from algorithms import read_settings
from conftest import PROJECT
from data import Actions
from game_runs import copy_run, make_agent
from run.folder import RunFolder
from training_helpers import compose

Call = Callable[..., str]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere is not a run folder: a run has a config/trainer.yaml"),
        (["{run}", "nowhere"], "nowhere is not a run folder"),
        (["{run}", "--epoch", "2"], "keeps no weights of epoch 2. Kept: 1, 3."),
        (["{run}", "--every", "2"], "keeps no weights of an epoch divisible by 2. Kept: 1, 3."),
        (["{run}", "--best", "--epoch", "3"], "not allowed with argument"),
        (["{run}", "--episodes", "0"], "argument --episodes: 0 is too small. python src/evaluate.py --help lists all"),
        (["{run}", "--env", "wm"], "argument --env: invalid choice: 'wm'"),
        (["{run}", "--policy", "best"], "argument --policy: invalid choice: 'best'"),
        (["{run}", "--device", "gpu"], "--device gpu is unknown"),
        (["{run}", "--num-envs", "300"], "--num-envs is at most 256"),
        (["{run}", "--record", "{run}/config/trainer.yaml"], "config/trainer.yaml is not a folder"),
        (["{run}", "world_model_env=fast"], "settings of imagination (world_model_env) need --world"),
        (["--pretrained", "Pong", "--best"], "--pretrained has no epochs"),
        (["{run}", "--horizon", "20"], "--horizon needs --world"),
        (["{run}", "--save-rollouts", "there"], "--save-rollouts needs --world"),
        (["{run}", "--world", "--no-random"], "--world plays no episodes: leave out --no-random"),
        (["{run}", "--world", "--record", "there"], "--world plays no episodes: leave out --record"),
        (["--local-dir", "there"], "--local-dir needs --pretrained"),
        (["--pretrained", "Pong", "--local-dir", "{run}"], "is no copy of eloialonso/diamond"),
    ],
)
def test_mistakes(
    shared_run: RunFolder,
    tmp_path: Path,
    complaint: Call,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in complaint(*[argument.format(run=shared_run.path) for argument in arguments])
    assert not (shared_run.path / "evaluation.jsonl").exists()


def test_no_weights(shared_run: RunFolder, tmp_path: Path, complaint: Call) -> None:
    folder = copy_run(shared_run, tmp_path / "run")
    folder.best_agent.unlink()
    assert "has no checkpoints/best.pt: its agent was never evaluated" in complaint(folder.path, "--best")
    shutil.rmtree(folder.agent_versions)
    assert "has no weights yet: its first checkpoint was not written" in complaint(folder.path)
    assert "Kept: none yet" in complaint(folder.path, "--every", "5")


def test_games_that_exist_only_as_recordings(tmp_path: Path, complaint: Call) -> None:
    """CS:GO, and recordings of any other game."""
    for name, settings in (("csgo", recordings.CSGO), ("own", [*recordings.CSGO, "env.train.id=my-game"])):
        config = compose("common.seed=0", game=[*settings, f"static_dataset.path={tmp_path}"], small=())
        folder, (_, typed) = RunFolder.create(tmp_path / name, config), read_settings(config)
        make_agent(typed, Actions("multi-hot", recordings.NUM_ACTIONS), 0.1).save(folder.agent_version(1))
        words = complaint(folder.path)
        assert f"{folder.path} was trained on recordings of {typed.env.test.id}: there is no game to play" in words
        assert "Add --world to measure how well it imagines." in words


def test_an_agent_without_a_policy(tmp_path: Path, complaint: Call) -> None:
    small = tuple(setting for setting in runs.SMALL_NETWORKS if "actor_critic" not in setting)
    config = compose("agent.actor_critic=null", "common.seed=0", f"static_dataset.path={tmp_path}", small=small)
    folder, (_, typed) = RunFolder.create(tmp_path / "run", config), read_settings(config)
    make_agent(typed, Actions("numbered", 4), 0.1).save(folder.agent_version(1))
    words = complaint(folder.path)
    assert f"{folder.path} has an agent without a policy, which plays no episodes. Add --world" in words


def test_an_agent_of_another_game(shared_run: RunFolder, tmp_path: Path, complaint: Call) -> None:
    folder = copy_run(shared_run, tmp_path / "run").path
    config = OmegaConf.load(folder / "config" / "trainer.yaml")
    config.env.test.id = "PongNoFrameskip-v4"
    OmegaConf.save(config, folder / "config" / "trainer.yaml")
    assert "PongNoFrameskip-v4 has 6 actions, but the agent 4." in complaint(folder)


def test_a_policy_that_shows_no_probabilities(tmp_path: Path, complaint: Call) -> None:
    search = f"hydra.searchpath=[file://{PROJECT / 'tests' / 'algorithms' / 'config'}]"
    config = compose("algorithm=reinforce", "common.seed=0", search, game=runs.CHASE, small=())
    folder = RunFolder.create(tmp_path / "run", config)
    weights = {
        f"{name}.linear.{part}": torch.zeros(shape)
        for name in ("policy", "average")
        for part, shape in (("weight", (5, 3 * 16 * 16)), ("bias", (5,)))
    }
    folder.agent_versions.mkdir(parents=True)
    torch.save(weights, folder.agent_version(1))
    assert "would import the module reinforce, which runs its code: add --trust" in complaint(folder.path)
    words = complaint(folder.path, "--trust", "--policy", "greedy")
    assert "the policy of reinforce:DEFINITION does not show the probabilities of its actions" in words


def test_modules_of_a_stranger_are_imported_with_trust_only(
    shared_run: RunFolder, tmp_path: Path, complaint: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trace = copy_run(shared_run, tmp_path / "run").path, tmp_path / "it ran"
    (tmp_path / "strange_game.py").write_text(f"open({str(trace)!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    config = OmegaConf.load(folder / "config" / "trainer.yaml")
    for split in ("train", "test"):
        config.env[split] = {"_target_": "envs.GymConfig", "id": "strange_game:Game-v0", "size": 16}
    OmegaConf.save(config, folder / "config" / "trainer.yaml")
    assert "would import the module strange_game, which runs its code: add --trust" in complaint(folder)
    assert not trace.exists()
    assert "env.train.id=strange_game:Game-v0 is unknown" in complaint(folder, "--trust")
    assert trace.exists()
