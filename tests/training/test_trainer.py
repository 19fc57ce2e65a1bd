"""Every setting of a run has its effect, with the real emulator."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import runs
from algorithms import read_settings
from algorithms.base import EvaluateWorld, PlayEpisodes, Save, Update
from data import Dataset, Episode
from errors import UserError
from files import load_tensors
from run.interrupt import Interrupted
from run.log import read_metrics
from training.progress import Progress
from training.schedule import Schedule
from training_helpers import compose, make_trainer, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("finished") / "run").folder.path


def names(folder: Path) -> set[str]:
    return {name for line in read_metrics(folder / "metrics.jsonl") for name in line}


def values(folder: Path, name: str) -> dict[int, float]:
    return {line["epoch"]: line[name] for line in read_metrics(folder / "metrics.jsonl") if name in line}


def test_a_run_leaves_what_the_design_promises(finished: Path) -> None:
    for path in (
        "checkpoints/state.pt",
        "checkpoints/best.pt",
        "checkpoints/agent_versions/agent_epoch_00002.pt",
        "checkpoints/agent_versions/agent_epoch_00004.pt",
        "config/trainer.yaml",
        "dataset/train/info.pt",
        "dataset/test/info.pt",
        "media/curves.png",
        "media/real_and_imagined_epoch_00004.mp4",
        "metrics.jsonl",
        "scripts/resume.sh",
        "src/main.py",
    ):
        assert (finished / path).is_file(), path
    assert list((finished / "tensorboard").glob("events*"))


def test_schedule_of_a_run(finished: Path) -> None:
    """40 steps first, then two epochs of 15, one final epoch; evaluations before training, and at epochs 2 and 4."""
    assert values(finished, "collection/train/num_steps") == {1: 40, 2: 55, 3: 70}
    assert values(finished, "denoiser/train/num_updates") == {1: 4, 2: 7, 3: 10, 4: 13}
    assert values(finished, "actor_critic/train/num_updates") == {1: 4, 2: 7, 3: 10, 4: 13}
    assert values(finished, "collection/test/num_episodes") == {0: 2, 2: 2, 4: 2}
    assert values(finished, "collection/final/num_episodes") == {4: 2}
    assert values(finished, "collection/random/num_episodes") == {4: 2}
    assert set(values(finished, "denoiser/test/loss_denoising")) == {0, 2, 4}
    assert set(values(finished, "rew_end_model/test/loss_total")) == {0, 2, 4}
    assert Dataset.open(finished / "dataset" / "train").num_steps == 70
    assert Dataset.open(finished / "dataset" / "test").num_episodes == 2


def test_the_published_recipe_has_a_thousand_epochs() -> None:
    config = compose("collection.train.num_steps_total=100000", "collection.train.first_epoch.min=5000",
                     "collection.train.first_epoch.max=10000", "collection.train.steps_per_epoch=100",
                     "training.num_final_epochs=50")  # fmt: skip
    _, typed = read_settings(config)
    schedule = Schedule(
        typed.collection,
        typed.evaluation,
        typed.checkpointing,
        typed.training.num_final_epochs,
        plays=True,
        learn=lambda epoch: [Update("denoiser", epoch)],
    )
    assert schedule.num_epochs(5000) == 1001
    assert schedule.num_epochs(10_000) == 951
    assert schedule.num_collecting_epochs(5050) == 951
    tests = [PlayEpisodes(2), EvaluateWorld()]
    assert schedule.phases(Progress(epoch=1, first_collection=5000)) == [*tests, Update("denoiser", 1)]
    assert schedule.phases(Progress(epoch=3, first_collection=5000)) == [Update("denoiser", 3)]
    assert schedule.phases(Progress(epoch=4, first_collection=5000)) == [Update("denoiser", 4), *tests, Save()]
    final = [PlayEpisodes(2, "random", at_random=True), PlayEpisodes(2, "final")]
    last = [Update("denoiser", 1001), *tests, Save(), *final]
    assert schedule.phases(Progress(epoch=1001, first_collection=5000)) == last


def test_weights_are_kept_and_pruned(tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "checkpointing.save_agent_every=1", "checkpointing.num_to_keep=2").folder
    kept = [path.name for path in sorted(folder.agent_versions.iterdir())]
    assert kept == ["agent_epoch_00003.pt", "agent_epoch_00004.pt"]
    state = load_tensors(folder.state)
    last = load_tensors(folder.agent_version(4))
    assert all(torch.equal(last[name], value) for name, value in state["agent"].items())


def test_initialization_loads_the_chosen_components(finished: Path, tmp_path: Path) -> None:
    path = finished / "checkpoints" / "agent_versions" / "agent_epoch_00004.pt"
    given = load_tensors(path)
    switches = ["initialization.load_rew_end_model=false", f"initialization.path_to_ckpt={path}", "common.seed=9"]
    weights = make_trainer(tmp_path / "run", *switches).algorithm.agent.state_dict()
    for component, taken in (("denoiser", True), ("rew_end_model", False), ("actor_critic", True)):
        own = [name for name in weights if name.startswith(component)]
        assert all(torch.equal(weights[name], given[name]) for name in own) == taken


def test_static_dataset_needs_no_environment(finished: Path, tmp_path: Path) -> None:
    static = [f"static_dataset.path={finished}", "training.num_final_epochs=2", "env.train.id=NoSuchGame"]
    before = runs.content(finished)
    folder = train(tmp_path / "run", *static).folder.path
    assert values(folder, "denoiser/train/num_updates") == {1: 4, 2: 7}
    assert set(values(folder, "denoiser/test/loss_denoising")) == {0, 2}
    assert "actor_critic/train/loss_total" in names(folder)
    assert not any(name.startswith("collection") for name in names(folder))
    assert not (folder / "dataset").exists()
    assert runs.content(finished) == before


def test_static_dataset_of_another_size(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"are \(3, 16, 16\), but the networks are made for \(3, 32, 32\)"):
        make_trainer(tmp_path / "run", f"static_dataset.path={finished}", "env.train.size=32")


def test_static_dataset_counts_or_takes_actions(finished: Path, tmp_path: Path) -> None:
    counted = make_trainer(tmp_path / "counted", f"static_dataset.path={finished}")
    assert counted.algorithm.agent.actor_critic.config.num_actions == 4
    told = make_trainer(tmp_path / "told", f"static_dataset.path={finished}", "static_dataset.num_actions=7")
    assert told.algorithm.agent.actor_critic.config.num_actions == 7


@pytest.fixture(scope="module")
def four_episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose oldest episode is as long as the three others together."""
    dataset = Dataset(tmp_path_factory.mktemp("static") / "train")
    for length in (30, 10, 10, 10):
        flags = torch.zeros(length, dtype=torch.uint8)
        obs = torch.randint(256, (length, 3, 16, 16), dtype=torch.uint8)
        dataset.add_episode(Episode(obs, torch.randint(4, (length,)), torch.zeros(length), flags, flags))
    dataset.save_info()
    return dataset.directory.parent


@pytest.mark.parametrize(("ignored", "shares"), [("true", (0.5, 1 / 6, 1 / 6, 1 / 6)), ("false", (0.0, 0.0, 0.5, 0.5))])
def test_static_dataset_is_drawn_by_length_or_by_age(
    four_episodes: Path, tmp_path: Path, ignored: str, shares: tuple[float, ...]
) -> None:
    count = 4000
    trainer = make_trainer(
        tmp_path / "run",
        f"static_dataset.path={four_episodes}",
        f"static_dataset.ignore_sample_weights={ignored}",
        "denoiser.training.sample_weights=[0.0,1.0]",
        f"denoiser.training.batch_size={count}",
    )
    batch, _ = trainer.algorithm.components["denoiser"].next_batch()
    drawn = np.bincount(batch.segments.episode_ids, minlength=4)
    expected = count * np.array(shares)
    # 6 standard deviations: fails by chance in fewer than one of 10^7 tests.
    assert (np.abs(drawn - expected) <= 6 * np.sqrt(expected)).all()


def test_model_free_trains_the_policy_alone(tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "training.model_free=true", game=runs.CHASE).folder.path
    assert values(folder, "actor_critic/train/num_updates") == {1: 4, 2: 7, 3: 10, 4: 13}
    assert not any(name.startswith(("denoiser", "rew_end_model", "collection/train")) for name in names(folder))
    assert set(values(folder, "collection/test/return_mean")) == {0, 2, 4}


def test_components_can_start_late(tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "actor_critic.training.start_after_epochs=2").folder.path
    assert values(folder, "actor_critic/train/num_updates") == {3: 4, 4: 7}


@pytest.mark.slow
def test_first_collection_continues_until_rewards_are_seen(tmp_path: Path) -> None:
    more = ["collection.train.first_epoch.max=60", "collection.train.first_epoch.threshold_rew=1000"]
    folder = train(tmp_path / "many", *more).folder.path
    assert values(folder, "collection/train/num_steps") == {1: 60, 2: 70}
    none = ["collection.train.first_epoch.max=60", "collection.train.first_epoch.threshold_rew=0"]
    folder = train(tmp_path / "few", *none).folder.path
    assert values(folder, "collection/train/num_steps")[1] == 40


def test_several_environments_collect(tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "collection.train.num_envs=3", "evaluation.untrained=false").folder.path
    assert values(folder, "collection/train/num_steps") == {1: 42, 2: 57, 3: 72}
    dataset = Dataset.open(folder / "dataset" / "train")
    for episode in dataset.episodes():
        # Frames of one episode belong together: the paddle and walls change little from one to the next.
        assert (episode.obs[1:].int() - episode.obs[:-1].int()).abs().float().mean() < 30
    assert set(values(folder, "collection/test/return_mean")) == {2, 4}


@pytest.mark.slow
def test_best_weights_have_the_best_return(tmp_path: Path) -> None:
    settings = ["evaluation.every=1", "checkpointing.save_agent_every=1", "collection.test.num_final_episodes=0"]
    folder = train(tmp_path / "run", *settings, game=runs.CHASE).folder
    returns = {e: v for e, v in values(folder.path, "collection/test/return_mean").items() if e > 0}
    best = max(returns, key=returns.get)
    best_agent, version = load_tensors(folder.best_agent), load_tensors(folder.agent_version(best))
    assert all(torch.equal(best_agent[name], version[name]) for name in version)


def test_precision_and_replay_device_are_taken(tmp_path: Path) -> None:
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        trainer = make_trainer(tmp_path / precision, f"training.precision={precision}", "training.replay_device=cpu")
        assert trainer.algorithm.components["denoiser"].precision == dtype
        assert trainer.data.train.replay.device == torch.device("cpu")
    with pytest.raises(UserError, match="tpu"):
        make_trainer(tmp_path / "other", "training.replay_device=tpu")


@pytest.mark.slow
def test_compiled_training_is_the_same_within_rounding(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    if shutil.which("g++") is None:
        pytest.skip("compilation on the CPU needs a C++ compiler")
    losses = {}
    for choice in ("false", "true"):
        settings = [f"training.compile={choice}", "training.precision=fp32", "collection.train.num_steps_total=40"]
        folder = train(tmp_path / choice, *settings, "training.num_final_epochs=0").folder.path
        losses[choice] = values(folder, "denoiser/train/loss_denoising")[1]
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-4)
    assert capsys.readouterr().out.count("Networks compile at their first use") == 1


@pytest.mark.slow
def test_seeds_make_runs(finished: Path, tmp_path: Path) -> None:
    other = train(tmp_path / "run", "common.seed=4").folder.path
    assert runs.metrics(other) != runs.metrics(finished)


@pytest.mark.slow
def test_updates_are_logged_within_epochs(finished: Path, tmp_path: Path) -> None:
    """At their own numbers in TensorBoard, and beside what is logged without them."""
    folder = train(tmp_path / "run", "training.log_every=2").folder
    lines = runs.metrics(folder.path)
    assert [line for line in lines if "update" not in line] == runs.metrics(finished)
    losses = {
        line["update"]: (line["epoch"], line["denoiser/updates/loss_denoising"])
        for line in lines
        if "denoiser/updates/loss_denoising" in line
    }
    # Of 4, 3, 3 and 3 updates in four epochs.
    assert {update: epoch for update, (epoch, _) in losses.items()} == {2: 1, 4: 1, 6: 2, 8: 3, 10: 3, 12: 4}
    first = values(folder.path, "denoiser/train/loss_denoising")[1]
    assert (losses[2][1] + losses[4][1]) / 2 == pytest.approx(first)
    events = EventAccumulator(str(folder.tensorboard))
    events.Reload()
    assert [each.step for each in events.Scalars("denoiser/updates/loss_denoising")] == list(losses)
    assert not {"epoch", "update"} & set(events.Tags()["scalars"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "phase", "count"), [("rew_end_model", 2, 5), ("actor_critic", 3, 6)])
def test_an_interrupted_trainer_resumes(finished: Path, tmp_path: Path, name: str, phase: int, count: int) -> None:
    """Stopped inside the second epoch; the slow tests do the same to whole processes, at random moments."""
    trainer = make_trainer(tmp_path / "run")
    component = trainer.algorithm.components[name]
    update = component.update

    def update_and_stop() -> None:
        update()
        if component.num_updates == count:
            signal.raise_signal(signal.SIGTERM)

    component.update = update_and_stop
    with pytest.raises(Interrupted):
        trainer.run()
    state = load_tensors(trainer.folder.state)
    assert state["progress"]["phase"] == phase
    assert state["components"][name]["num_updates_in_phase"] == count - 4
    resumed = runs.resume(trainer.folder.path)
    assert resumed.returncode == 0
    assert f"Resuming at epoch 2, phase {phase + 1} of 7: {name}, update {count - 3} of 3\n" in resumed.stdout
    assert runs.content(trainer.folder.path) == runs.content(finished)
