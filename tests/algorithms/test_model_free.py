"""PPO, Double DQN and discrete SAC are trained, killed, resumed, tested, filmed, played, evaluated and compared."""

import json
import math
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
import torch

import runs
from conftest import PROJECT
from data import Dataset
from files import load_tensors
from run.folder import RunFolder
from run.log import read_metrics
from small_baselines import NUM_STEPS, PREFILL, ROLLOUT, SMALL, UPDATES_PER_ROLLOUT, UPDATES_PER_STEP
from training_helpers import train

pytestmark = pytest.mark.slow
Runs = Callable[[str], RunFolder]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A small run of an algorithm, made once."""
    made: dict[str, RunFolder] = {}

    def run_of(name: str) -> RunFolder:
        if name not in made:
            path = tmp_path_factory.mktemp(name) / "run"
            made[name] = train(path, game=runs.CHASE, small=SMALL[name]).folder
        return made[name]

    return run_of


every_algorithm = pytest.mark.parametrize("name", SMALL)


def column(run: RunFolder, name: str) -> list[float]:
    return [line[name] for line in read_metrics(run.metrics) if name in line]


def test_ppo_learns_from_each_rollout(run_of: Runs) -> None:
    """Two rollouts in an epoch; the last one is cut by the total number of steps."""
    run = run_of("ppo")
    steps, updates = column(run, "collection/train/num_steps"), column(run, "ppo/train/num_updates")
    assert steps == [32, 64, 96, 128, 160, 192, 200]
    assert updates == [UPDATES_PER_ROLLOUT * number for number in range(1, 8)]
    rates = column(run, "ppo/train/lr")
    # The logged rate is that of the next update.
    assert rates == pytest.approx([2.5e-4 * (1 - number / 7) for number in range(1, 8)])
    columns = load_tensors(run.state.parent / load_tensors(run.state)["columns"])[0]
    assert columns["log_prob"].shape == columns["value"].shape == (NUM_STEPS,)
    # With five actions, an untrained policy is nearly uniform.
    assert (columns["log_prob"][:ROLLOUT] + math.log(5)).abs().max() < 0.1


@pytest.mark.parametrize("name", ["ddqn", "sac"])
def test_the_others_update_at_their_ratio(run_of: Runs, name: str) -> None:
    run = run_of(name)
    steps, updates = column(run, "collection/train/num_steps"), column(run, f"{name}/train/num_updates")
    assert steps == [80, 140, 200]
    episodes = accumulate(
        line.get("collection/train/num_episodes", 0)
        for line in read_metrics(run.metrics)
        if "collection/train/num_steps" in line
    )
    observations = [count + over for count, over in zip(steps, episodes, strict=True)]
    assert updates == [1 + int((count - PREFILL) * UPDATES_PER_STEP) for count in observations]


def test_random_actions_become_rare(run_of: Runs) -> None:
    """Exploration ends after a tenth of the steps, before the first update. SAC begins at random."""
    assert column(run_of("ddqn"), "ddqn/train/epsilon") == pytest.approx([0.01] * 3)
    assert column(run_of("sac"), "sac/train/epsilon")[1:] == [0.0, 0.0]


@every_algorithm
def test_it_is_tested_and_saved(run_of: Runs, name: str) -> None:
    run = run_of(name)
    assert Dataset.open(run.dataset("train")).num_steps == NUM_STEPS
    tests = [line["epoch"] for line in read_metrics(run.metrics) if "collection/test/return_mean" in line]
    final = column(run, "collection/final/num_episodes")
    assert tests == ([2, 4] if name == "ppo" else [2, 3])
    assert final == [3]
    assert run.best_agent.is_file()
    assert len(list(run.agent_versions.iterdir())) == 1


@pytest.mark.parametrize("name", ["ddqn", "sac"])
def test_target_networks_are_part_of_the_agent(run_of: Runs, name: str) -> None:
    agent = load_tensors(run_of(name).state)["agent"]
    pairs = {"ddqn": [("online", "target")], "sac": [("critic_1", "target_1"), ("critic_2", "target_2")]}
    for trained, target in pairs[name]:
        difference = (agent[f"{trained}.head.weight"] - agent[f"{target}.head.weight"]).abs().max()
        assert 0 < difference < 0.1


PLANS = {
    "ppo": [(SIGKILL, r"rename .*state", 3), (SIGKILL, r"rename .*state", 11), (SIGTERM, r"rename .*state", 17)],
    "ddqn": [(SIGKILL, r"rename .*state", 20), (SIGKILL, r"rename .*state", 33), (SIGTERM, r"rename .*state", 29)],
    "sac": [(SIGKILL, r"rename .*state", 24), (SIGKILL, r"rename .*state", 31), (SIGTERM, r"rename .*state", 35)],
}
"""Before the first update, between updates (PPO: of one rollout), and between steps (PPO: in a rollout)."""


@every_algorithm
def test_killed_at_any_moment_it_ends_the_same(run_of: Runs, tmp_path: Path, name: str) -> None:
    """With a checkpoint after every step and update: episodes, replay columns, targets, schedules and generators."""
    folder, settings = tmp_path / "run", [*runs.CHASE, *SMALL[name], "checkpointing.minutes=0"]
    path = f"{PROJECT / 'tests'}:{PROJECT / 'src'}:{runs.environment()['PYTHONPATH']}"
    script = PROJECT / "tests" / "faults" / "killed_run.py"
    result = runs.run([sys.executable, script, folder, json.dumps(PLANS[name]), *settings], PYTHONPATH=path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert runs.content(folder) == runs.content(run_of(name).path)


@every_algorithm
def test_it_plays_the_real_game_only(run_of: Runs, tmp_path: Path, name: str) -> None:
    film = tmp_path / "film.mp4"
    play = [sys.executable, PROJECT / "src" / "play.py", "--run", run_of(name).path, "--device", "cpu", "--trust"]
    result = runs.run([*play, "--video", film, "--steps", "10"], SDL_VIDEODRIVER="dummy")
    assert result.returncode == 0, result.stderr
    assert film.stat().st_size > 1000
    refused = runs.run([*play, "--video", film, "--env", "wm"], SDL_VIDEODRIVER="dummy")
    assert refused.returncode == 2
    assert "--env wm does not exist for this run: it has test, train." in refused.stderr


def test_they_are_evaluated_filmed_and_compared(run_of: Runs, tmp_path: Path) -> None:
    folders = [run_of(name).path for name in SMALL]
    evaluate = [sys.executable, PROJECT / "src" / "evaluate.py", *folders, "--trust", "--device", "cpu"]
    result = runs.run([*evaluate, "--episodes", "3", "--no-random", "--record", tmp_path / "films"])
    assert result.returncode == 0, result.stderr
    assert [line.split("|")[2].strip() for line in result.stdout.splitlines()[2:5]] == list(SMALL)
    assert len(list((tmp_path / "films").glob("*.mp4"))) == 9
    greedy = runs.run([*evaluate, "--episodes", "2", "--no-random", "--policy", "greedy"])
    assert greedy.returncode == 0, greedy.stderr
    compare = [sys.executable, PROJECT / "scripts" / "compare.py", *folders, "--out", tmp_path / "compared"]
    compared = runs.run(compare)
    assert compared.returncode == 0, compared.stderr
    for words in ("ppo loss", "ddqn loss", "sac loss", "ppo updates/s"):
        assert words in compared.stdout
    assert (tmp_path / "compared" / "comparison.png").stat().st_size > 1000


@every_algorithm
def test_the_quickstart_on_atari(tmp_path: Path, name: str) -> None:
    """Cut short: whole games of Breakout take most of its time."""
    short = ["env.test.max_episode_steps=50", "collection.test.num_final_episodes=2"]
    short += (
        ["collection.train.num_steps_total=128", "ppo.num_steps=16", "collection.train.steps_per_epoch=128"]
        if name == "ppo"
        else [f"{name}.prefill=100", "collection.train.num_steps_total=120", "collection.train.first_epoch.min=100"]
    )
    command = runs.command(f"algorithm={name}", "+experiment=quickstart", *short, "common.device=cpu", "common.seed=0")
    result = runs.run([*command, f"hydra.run.dir={tmp_path / 'run'}"], timeout=1200)
    assert result.returncode == 0, result.stderr
    run = RunFolder.open(tmp_path / "run")
    assert Dataset.open(run.dataset("train")).episodes().__next__().obs.shape[1:] == (3, 64, 64)
    assert math.isfinite(column(run, f"{name}/train/num_updates")[-1])
    assert "Final test return" in result.stdout


def test_the_nature_network_plays_atari(tmp_path: Path) -> None:
    settings = tuple(each for each in SMALL["ppo"] if not each.startswith(("agent.channels", "agent.down")))
    game = ["env.train.id=PongNoFrameskip-v4", "env.train.size=36", "env.train.grayscale=true"]
    short = ["agent=nature_cnn", "env.test.max_episode_steps=30"]
    trainer = train(tmp_path / "run", *short, game=game, small=settings)
    weights = torch.load(trainer.folder.agent_version(4), weights_only=True)
    assert weights["network.trunk.encoder.0.weight"].shape == (32, 2, 8, 8)
