"""DreamerV3's settings: the published ones for Atari, sizes by device, and separate optimizers."""

from pathlib import Path

import pytest
import torch

import runs
from algorithms import read_settings
from algorithms.dreamer.agent import DreamerAgent
from algorithms.dreamer.config import DreamerConfig, LaPropSection
from data import Actions, Spaces
from errors import UserError
from main import complete
from models.dreamer import Learner, LossConfig
from models.dreamer.config import NetworkConfig
from run.config import register_resolvers
from run.log import read_metrics
from small_dreamer import SMALL
from training_helpers import compose, train

PONG = ["algorithm=dreamer", "env.train.id=PongNoFrameskip-v4"]
SLOW, FAST, FASTEST = 1e-4, 1e-3, 1e-2


def read(*overrides: str, game: list[str] = PONG) -> DreamerConfig:
    return read_settings(compose("common.seed=0", "algorithm.size=1M", *overrides, game=game, small=()))[1]


def test_atari_is_as_published() -> None:
    """Section 15 of the specification; `NoFrameskip-v4` has no sticky actions."""
    config = read()
    for env in (config.env.train, config.env.test):
        assert (env.resize, env.done_on_life_loss, env.noop_max, env.max_episode_steps, env.size) == (
            "bilinear_antialiased",
            False,
            30,
            27_000,
            64,
        )
    section, train = config.dreamer, config.collection.train
    assert (section.batch_size, section.length, section.updates_per_row) == (16, 64, 1 / 4)
    assert (train.num_envs, train.num_steps_total, section.num_prefill_rows(1)) == (1, 100_000, 1088)


def test_other_algorithms_and_games_keep_their_own() -> None:
    assert compose(game=[], small=()).env.train.resize == "area"
    assert "resize" not in compose("algorithm=dreamer", game=runs.CHASE, small=()).env.train


def test_the_parallel_setting() -> None:
    config = read(game=["+experiment=dreamer_parallel", "env.train.id=PongNoFrameskip-v4"])
    num_envs, section = config.collection.train.num_envs, config.dreamer
    assert (num_envs, section.updates_per_row * num_envs) == (16, 1)
    assert (section.losses.horizon, section.losses.discount, section.length) == (16, 0.997, 64)
    assert config.agent.of_size("50M").deter == 4096


def test_the_laptop_setting() -> None:
    """Without the tests' own size: the experiment chooses it. The first epoch ends before the first update."""
    game = ["+experiment=laptop", "algorithm=dreamer", "env.train.id=FreewayNoFrameskip-v4", "common.seed=0"]
    config = read_settings(compose(game=game, small=()))[1]
    config.check()
    train = config.collection.train
    assert (config.algorithm.size, config.env.test.size, config.dreamer.updates_per_row) == ("1M", 32, 1 / 2)
    assert train.first_epoch.max < config.dreamer.num_prefill_rows(train.num_envs) == 3128


@pytest.mark.parametrize(("kind", "size"), [("cuda", "200M"), ("cpu", "12M"), ("mps", "12M")])
def test_the_size_depends_on_the_device(kind: str, size: str) -> None:
    assert read("algorithm.size=auto").chosen_for(kind) == {"algorithm.size": size}
    assert read("algorithm.size=25M").chosen_for(kind) == {}


def test_the_size_is_said_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    register_resolvers()
    config = compose("common.device=cpu", game=PONG, small=())
    complete(config)
    assert capsys.readouterr().out == "algorithm.size=12M, the default on cpu.\n"
    assert config.algorithm.size == "12M"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("algorithm.size=auto", "algorithm.size=auto is for new runs: name one of 1M, 12M,"),
        ("algorithm.optimizers=two", "algorithm.optimizers=two is unknown: there is joint, separate."),
        ("dreamer.optimizer.actor_lr=1e-3", "dreamer.optimizer.actor_lr=0.001 needs algorithm.optimizers=separate."),
        ("dreamer.optimizer.critic_lr=0", "dreamer.optimizer.critic_lr=0 must be above 0"),
    ],
)
def test_mistakes_are_one_line(override: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        read(override).check()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_separate_optimizers_have_their_own_rates() -> None:
    """At equal gradients, a step is as long as the learning rate of the network; the slow critic does not move."""
    networks = NetworkConfig(deter=16, hidden=8, classes=4, units=8, depth=2, stoch=4)
    learner = Learner(DreamerAgent(networks, Spaces((3, 16, 16), Actions("numbered", 4))), LossConfig(), networks.bins)
    section = LaPropSection(
        lr=SLOW,
        warmup=1,
        beta1=0.9,
        beta2=0.999,
        eps=1e-20,
        clip=1e9,
        smallest_norm=1.0,
        actor_lr=FAST,
        critic_lr=FASTEST,
    )
    before = {name: value.clone() for name, value in learner.named_parameters()}
    for each in learner.parameters():
        each.grad = torch.full_like(each, 0.5) if each.requires_grad else None
    section.make_separate(learner).step()
    rates = {"actor": FAST, "critic": FASTEST, "slow_critic": 0.0}
    for name, value in learner.named_parameters():
        wanted = rates.get(name.split(".")[1], SLOW)
        torch.testing.assert_close(before[name] - value, torch.full_like(value, wanted), rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_separate_optimizers_at_one_rate_are_a_joint_one(tmp_path: Path) -> None:
    """Every tensor is clipped and normalised by itself, so the runs are equal in every bit; rates are logged."""
    shorter = ["collection.train.num_steps_total=60", "evaluation.video_steps=0", "collection.train.first_epoch.min=30"]
    folders = {}
    for kind in ("joint", "separate"):
        options = [*shorter, f"algorithm.optimizers={kind}"]
        folders[kind] = train(tmp_path / kind, *options, game=runs.CHASE, small=SMALL).folder
    weights = [torch.load(each.agent_version(2), weights_only=True) for each in folders.values()]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    lines = [line for line in read_metrics(folders["separate"].metrics) if "dreamer/train/lr" in line]
    assert {lines[-1][f"dreamer/train/lr_{name}"] for name in ("world_model", "actor", "critic")} == {1e-3}


@pytest.mark.slow
@pytest.mark.parametrize(("interval", "epochs"), [("null", [1, 2, 3]), ("60", [1, 2]), ("1000", [1])])
def test_videos_are_made_at_their_interval(tmp_path: Path, interval: str, epochs: list[int]) -> None:
    """With evaluations after 50, 80 and 110 steps: the first one after each multiple of the interval."""
    options = ["evaluation.every=1", f"evaluation.video_interval={interval}", "dreamer.prefill=100"]
    folder = train(tmp_path / "run", *options, game=runs.CHASE, small=SMALL).folder
    films = sorted(path.name for path in folder.media.glob("real_and_imagined_*.mp4"))
    assert films == [f"real_and_imagined_epoch_{epoch:05d}.mp4" for epoch in epochs]
