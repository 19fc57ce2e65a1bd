"""Settings of PPO, Double DQN and discrete SAC: schedules, sources, and mistakes, which are one line each."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import main
from algorithms import read_settings
from algorithms.model_free.config import ModelFreeConfig
from errors import UserError
from run.door import explain
from small_baselines import SMALL
from training_helpers import compose

NAMES = ("ppo", "ddqn", "sac")
Call = Callable[..., str]


def read(*overrides: str, game: tuple[str, ...] = ()) -> ModelFreeConfig:
    config = read_settings(compose("common.seed=0", *overrides, game=list(game), small=()))[1]
    config.check()
    return config


def test_ppo_is_as_in_cleanrl() -> None:
    """ppo_atari.py: 8 environments, 128 steps, 4 epochs of 4 minibatches."""
    config = read("algorithm=ppo")
    section, losses = config.ppo, config.ppo.losses
    assert (config.rollout, section.epochs, section.training(config.rollout).batch_size) == (1024, 4, 256)
    assert (section.gamma, section.lambda_, section.max_grad_norm, section.optimizer.eps) == (0.99, 0.95, 0.5, 1e-5)
    assert (losses.clip, losses.weight_value_loss, losses.weight_entropy_loss) == (0.1, 0.5, 0.01)
    # The rate falls after each rollout, and would be zero after the last one.
    rates = [section.optimizer.lr * section.lr_factor(updates, 4) for updates in (0, 15, 16, 48, 64, 80)]
    assert rates == pytest.approx([2.5e-4, 2.5e-4, 0.75 * 2.5e-4, 0.25 * 2.5e-4, 0, 0])


def test_rollouts_fill_the_total_number_of_steps() -> None:
    config = read("algorithm=ppo", "collection.train.num_envs=16", "collection.train.num_steps_total=10000")
    assert config.rollout == config.collection.train.steps_per_epoch == config.collection.train.first_epoch.min == 2048


def test_double_dqn_explores_at_first() -> None:
    config = read("algorithm=ddqn")
    assert [config.explore(count) for count in (0, 5_000, 10_000, 50_000)] == pytest.approx([1, 0.505, 0.01, 0.01])
    assert read("algorithm=ddqn", "ddqn.exploration=0").explore(0) == 0.01


def test_the_data_efficient_setting() -> None:
    """Van Hasselt et al. 2019, appendix E."""
    config = read("+experiment=ddqn_100k")
    section = config.ddqn
    assert (section.updates_per_step, section.num_steps, section.prefill, section.batch_size) == (1, 20, 1600, 32)
    assert (section.target.every, section.optimizer.lr, section.optimizer.eps) == (2000, 1e-4, 1.5e-4)
    assert config.collection.train.num_steps_total == 100_000


def test_sac_begins_at_random_and_holds_the_published_entropy() -> None:
    config = read("algorithm=sac")
    assert [config.explore(count) for count in (0, 1599, 1600)] == [1, 1, 0]
    assert config.sac.target_entropy(18) == pytest.approx(0.98 * np.log(18))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "experiment", ["tiny", "quickstart", "laptop", "compare", "[tiny,compare]", "[laptop,compare]"]
)
def test_experiments_fit_each_of_them(name: str, experiment: str) -> None:
    game = ("env=gym", "env.train.id=pixel_game:Chase-v0") if "tiny" in experiment else ()
    read(f"algorithm={name}", f"+experiment={experiment}", game=game)


def test_all_of_them_see_the_same_frames() -> None:
    """Only the algorithm differs: the environment and the encoder are the world models' own."""
    usual = compose("common.seed=0", game=[], small=())
    for name in NAMES:
        config = compose("common.seed=0", f"algorithm={name}", game=[], small=())
        assert config.env == usual.env
        for setting in ("channels", "down"):
            assert config.agent[setting] == usual.agent.actor_critic[setting]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("static_dataset.path=/", "algorithm={name} collects its own experience: leave out static_dataset.path."),
        ("static_dataset.stride=2", "leave out static_dataset.stride."),
        ("training.num_final_epochs=2", "training.num_final_epochs=2 must be 0: algorithm={name} learns while"),
        ("training.offload_idle=true", "needs an agent without a policy"),
        ("evaluation.max_batches=2", "evaluation.max_batches=2 must be null: algorithm={name} has no test batches."),
        ("evaluation.video_interval=9", "evaluation.video_interval=9 must be null: algorithm={name} has no world"),
        ("env.train.size=8", "agent and env.train.size do not fit together: img_size=[8, 8] is too small for down="),
        ("agent.channels=[32]", "each must have one entry per level"),
        ("collection.train.num_steps_total=9", "collection.train.num_steps_total=9 is too few"),
        ("agent=default", "agent._target_: agent.AgentConfig is not allowed"),
    ],
)
def test_mistakes_of_all(name: str, override: str, words: str) -> None:
    assert words.format(name=name) in refusal(f"algorithm={name}", override)


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("ppo", "collection.train.epsilon=0.1", "must be 0: algorithm=ppo learns from its own actions"),
        ("ppo", "collection.train.steps_per_epoch=1000", "=1000 must be a multiple of 1024, the steps of a rollout"),
        ("ppo", "collection.train.first_epoch.max=2048", "first_epoch.max=2048 must be equal to its min=1024"),
        ("ppo", "ppo.minibatches=3", "ppo.minibatches=3 must divide a rollout of 1024 steps"),
        ("ppo", "ppo.minibatches=1024", "equal parts of at least 2"),
        ("ppo", "ppo.num_steps=1", "ppo.num_steps=1 must be at least 2"),
        ("ddqn", "ddqn.prefill=4", "ddqn.prefill=4 is too few"),
        ("sac", "sac.entropy=2", "sac.entropy=2 must be at least 0 and at most 1"),
        ("sac", "sac.temperature=0", "sac.temperature=0 must be above 0"),
    ],
)
def test_mistakes_of_one(name: str, override: str, words: str) -> None:
    assert words in refusal(f"algorithm={name}", override)


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as refused:
        read(*overrides)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, tmp_path: Path) -> Call:
    """Train with a user's command line in this process; returns the one line of the error message."""

    def call(*settings: str) -> str:
        monkeypatch.setattr(sys, "argv", ["main.py", *settings, f"hydra.run.dir={tmp_path / 'run'}"])
        capfd.readouterr()
        with pytest.raises(SystemExit, match="2"):
            sys.exit(explain(main.main, main.NOTHING_YET))
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
        return line

    return call


@pytest.mark.slow
@pytest.mark.parametrize(
    "override", ["world_model_env.horizon=20", "denoiser.training.batch_size=8", "training.model_free=true"]
)
def test_settings_of_world_models_are_refused(call: Call, override: str) -> None:
    line = call("algorithm=ppo", override)
    assert line == f"error: Could not override '{override.split('=')[0]}'. The chosen algorithm has no such setting."


@pytest.mark.slow
def test_a_world_model_sampler_is_refused(call: Call) -> None:
    assert "Could not override 'world_model_env'." in call("algorithm=sac", "world_model_env=fast")
    assert "world_model_env is unknown" in call("algorithm=sac", "+world_model_env.horizon=20")


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "count"), [((), 15), (("algorithm=ppo,sac", "common.seed=7"), 2)])
def test_comparisons_run_every_algorithm_with_every_seed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, tmp_path: Path, chosen: tuple[str, ...], count: int
) -> None:
    """The first of the runs stops here, at a device that does not exist."""
    settings = ["-m", "+experiment=compare", "common.device=none", *chosen, f"hydra.sweep.dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["main.py", *settings])
    with pytest.raises(SystemExit, match="2"):
        sys.exit(explain(main.main, main.NOTHING_YET))
    captured = capfd.readouterr()
    assert f"Launching {count} jobs locally" in captured.out + captured.err
    assert [path.name for path in tmp_path.glob("*_*")] in ([], ["diamond_0"], ["ppo_7"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_continuous_actions_are_refused(call: Call, name: str) -> None:
    line = call(*SMALL[name], "env=gym", "env.train.id=Pendulum-v1", "env.train.size=16")
    assert "env.train.id=Pendulum-v1 has the action space Box" in line
    assert "a Discrete one is needed" in line
