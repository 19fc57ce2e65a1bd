"""PPO, Double DQN and discrete SAC are trained, killed, resumed, tested, filmed, played, evaluated and compared."""

import functools
import json
import math
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
import torch

import compare
import evaluate
import main
import play
import runs
import two_ranks
from conftest import PROJECT
from data import Dataset
from files import load_tensors
from run.folder import RunFolder
from run.log import read_metrics
from run.ranks import spawn_ranks
from small_baselines import NUM_STEPS, PREFILL, ROLLOUT, SMALL, UPDATES_PER_ROLLOUT, UPDATES_PER_STEP
from training_helpers import compose, train

pytestmark = pytest.mark.slow
Runs = Callable[[str], RunFolder]
Call = Callable[..., str]


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


def test_no_step_begins_before_an_update(run_of: Runs) -> None:
    """The last step of a rollout has none ahead: its actions would be those of the old weights."""
    groups = load_tensors(run_of("ppo").state)["collectors"]["train"]["groups"]
    assert [group["choice"] for group in groups] == [None, None]


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


def test_lost_columns_are_computed_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The run ends after a warning, and learns from as many rollouts."""
    total, path = "collection.train.num_steps_total=", tmp_path / "run"
    # The first half of a run, and then the whole.
    folder = train(path, f"{total}{4 * ROLLOUT}", game=runs.CHASE, small=SMALL["ppo"]).folder
    for columns in folder.state.parent.glob("columns_*"):
        columns.unlink()
    capfd.readouterr()
    assert main.resume([str(path), "--trust", f"{total}{NUM_STEPS}"]) == 0
    assert "It is computed again: the run will not be exactly the same." in capfd.readouterr().err
    assert column(folder, "ppo/train/num_updates")[-1] == 7 * UPDATES_PER_ROLLOUT
    assert Dataset.open(folder.dataset("train")).num_steps == NUM_STEPS


@every_algorithm
def test_two_ranks_train_the_same_weights(tmp_path: Path, name: str) -> None:
    folder = RunFolder.create(tmp_path / "run", compose(game=runs.CHASE, small=SMALL[name])).path
    assert spawn_ranks([torch.device("cpu")] * 2, functools.partial(two_ranks.train, folder)) == 0
    ranks = json.loads((folder / "ranks.json").read_text())
    assert len(set(ranks["digests"])) == 1
    assert ranks["lengths"][0] == ranks["lengths"][1]
    assert sum(ranks["lengths"][0]) == NUM_STEPS


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """A program with these arguments, in this process, which saves starting another; returns what it prints."""

    def call(program: Callable[[], int], *arguments: str | Path, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["program.py", *map(str, arguments)])
        capfd.readouterr()
        ended = program()
        captured = capfd.readouterr()
        assert ended == code, captured
        return captured.out if code == 0 else captured.err

    return call


@every_algorithm
def test_it_plays_the_real_game_only(run_of: Runs, tmp_path: Path, call: Call, name: str) -> None:
    film = tmp_path / "film.mp4"
    arguments = ["--run", run_of(name).path, "--device", "cpu", "--trust", "--video", film]
    assert "Film of 10 steps" in call(play.main, *arguments, "--steps", "10")
    assert film.stat().st_size > 1000
    refused = call(play.main, *arguments, "--env", "wm", code=2)
    assert "--env wm does not exist for this run: it has test, train." in refused


def test_they_are_evaluated_filmed_and_compared(run_of: Runs, tmp_path: Path, call: Call) -> None:
    folders = [run_of(name).path for name in SMALL]
    arguments = [*folders, "--trust", "--device", "cpu", "--no-random"]
    printed = call(evaluate.main, *arguments, "--episodes", "3", "--record", tmp_path / "films")
    assert [line.split("|")[2].strip() for line in printed.splitlines()[2:5]] == list(SMALL)
    assert len(list((tmp_path / "films").glob("*.mp4"))) == 9
    assert "0.0" in call(evaluate.main, *arguments, "--episodes", "2", "--policy", "greedy")
    table = call(compare.main, *folders, "--out", tmp_path / "compared")
    for words in ("ppo loss", "ddqn loss", "sac loss", "ppo updates/s"):
        assert words in table
    assert (tmp_path / "compared" / "comparison.png").stat().st_size > 1000


@every_algorithm
def test_the_quickstart_on_atari(tmp_path: Path, call: Call, name: str) -> None:
    """Cut short: whole games of Breakout take most of its time."""
    short = ["env.test.max_episode_steps=50", "collection.test.num_final_episodes=2", "common.threads=1"]
    short += (
        ["collection.train.num_steps_total=128", "ppo.num_steps=16", "collection.train.steps_per_epoch=128"]
        if name == "ppo"
        else [f"{name}.prefill=100", "collection.train.num_steps_total=120", "collection.train.first_epoch.min=100"]
    )
    chosen = [f"algorithm={name}", "+experiment=quickstart", "common.device=cpu", "common.seed=0"]
    printed = call(main.main, *chosen, *short, f"hydra.run.dir={tmp_path / 'run'}")
    run = RunFolder.open(tmp_path / "run")
    assert next(Dataset.open(run.dataset("train")).episodes()).obs.shape[1:] == (3, 64, 64)
    assert column(run, f"{name}/train/num_updates")[-1] > 0
    assert "Final test return" in printed


def test_the_nature_network_plays_atari(tmp_path: Path) -> None:
    settings = tuple(each for each in SMALL["ppo"] if not each.startswith(("agent.channels", "agent.down")))
    game = ["env.train.id=PongNoFrameskip-v4", "env.train.size=36", "env.train.grayscale=true"]
    short = ["agent=nature_cnn", "env.test.max_episode_steps=30"]
    trainer = train(tmp_path / "run", *short, game=game, small=settings)
    weights = torch.load(trainer.folder.agent_version(4), weights_only=True)
    assert weights["network.trunk.encoder.0.weight"].shape == (32, 2, 8, 8)
