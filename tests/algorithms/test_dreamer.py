"""DreamerV3 in the house: it trains at its ratio, resumes exactly, plays, and imagines."""

import json
import math
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

import runs
from algorithms import read_settings
from algorithms.base import Collect, Interleave, Surroundings
from algorithms.dreamer import DEFINITION
from algorithms.dreamer.algorithm import Dreamer
from algorithms.dreamer.config import DreamerConfig
from algorithms.dreamer.policy import DreamerPolicy
from component import Component
from conftest import PROJECT
from data import Actions, Batch, Dataset, Episode, Replay, Segments, Spaces
from envs import GymConfig, RealEnv, make_env
from errors import UserError
from files import load_tensors
from game.header import header_fields
from game.keys import ActionKeys
from game.moment import Moment, Place
from game.play_env import PlayEnv
from models.dreamer import State, TwoHot
from rl.collector import Collector
from rl.policy import Rememberer, Thinker
from run.folder import RunFolder
from run.interrupt import Interrupted
from run.log import read_metrics
from run.ranks import Ranks
from small_dreamer import LENGTH, PREFILL, SMALL
from trainer import Trainer
from training_helpers import compose, make_trainer, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("dreamer") / "run", game=runs.CHASE, small=SMALL).folder.path


def values(folder: Path, name: str) -> list[float]:
    return [line[name] for line in read_metrics(folder / "metrics.jsonl") if name in line]


def num_rows(episodes: list[Episode]) -> int:
    return sum(len(each) + each.is_over for each in episodes)


def test_updates_follow_the_rows(finished: Path) -> None:
    """One when there are enough windows, and one more for every four rows, final observations included."""
    rows = num_rows(list(Dataset.open(finished / "dataset" / "train").episodes()))
    assert rows > 110
    assert values(finished, "dreamer/train/num_updates")[-1] == 1 + (rows - PREFILL - LENGTH) // 4
    assert values(finished, "collection/train/num_steps") == [50, 80, 110]


def test_updates_are_due_over_the_whole_run() -> None:
    """The first one at observation 7, and one for every four observations after it."""
    phase = Interleave(Collect(10), ("dreamer",), ratio=0.25, since=7)
    assert [phase.num_due(count) for count in range(17)] == [0] * 7 + [1] * 4 + [2] * 4 + [3] * 2


@pytest.mark.parametrize(("threshold", "steps"), [(1000, [70, 90]), (0, [50, 80, 90])])
def test_the_first_epoch_continues_until_rewards_are_seen(tmp_path: Path, threshold: int, steps: list[int]) -> None:
    """While it also updates; at most 20 steps longer."""
    longer = ["collection.train.first_epoch.max=70", f"collection.train.first_epoch.threshold_rew={threshold}"]
    settings = [*longer, "collection.train.num_steps_total=90", "evaluation.video_steps=0"]
    trainer = train(tmp_path / "run", *settings, game=runs.CHASE, small=SMALL)
    assert values(trainer.folder.path, "collection/train/num_steps") == steps
    rows = num_rows(list(Dataset.open(trainer.folder.dataset("train")).episodes()))
    assert trainer.algorithm.components["dreamer"].num_updates == 1 + (rows - PREFILL - LENGTH) // 4


def test_it_reports_what_it_learns(finished: Path) -> None:
    line = next(line for line in read_metrics(finished / "metrics.jsonl") if "dreamer/train/loss_total" in line)
    scales = vars(make_config().dreamer.losses.scales)
    total = sum(scale * line[f"dreamer/train/loss_{name}"] for name, scale in scales.items())
    assert line["dreamer/train/loss_total"] == pytest.approx(total, rel=1e-4)
    assert 0 < line["dreamer/train/policy_entropy"] <= np.log(5) + 1e-6
    assert (finished / "media" / "real_and_imagined_epoch_00003.mp4").is_file()
    norms = {name.rpartition("/")[2] for name in line if "grad_norm" in name}
    networks = ("encoder", "rssm", "decoder", "reward", "continue", "actor", "critic")
    assert norms == {"grad_norm", *(f"grad_norm_{each}" for each in networks)}
    # The divergence is not negative; the losses made from it are at least the free nats.
    assert 0 <= line["dreamer/train/kl"] <= line["dreamer/train/loss_dynamics"]
    for name in ("posterior_entropy", "prior_entropy", "return_low", "return_high", "lr"):
        assert f"dreamer/train/{name}" in line


def test_the_best_score_is_that_of_all_episodes(finished: Path) -> None:
    scores = [float(each.rew.sum()) for each in Dataset.open(finished / "dataset" / "train").episodes() if each.is_over]
    assert values(finished, "collection/train/return_best")[-1] == max(scores)


def test_the_picture_has_three_columns(finished: Path) -> None:
    """Of 256 pixels with 4 between them in the film, and of 128 in the picture: moments below each other."""
    with Image.open(finished / "media" / "real_and_imagined_epoch_00003.png") as picture:
        assert picture.width == 3 * 128 + 2 * 4
        # Two frames of context and four imagined ones.
        assert picture.height == 6 * (20 + 128)


def test_the_slow_critic_follows(finished: Path) -> None:
    agent = load_tensors(finished / "checkpoints" / "state.pt")["agent"]
    slow, fast = agent["slow_critic.out.weight"], agent["critic.out.weight"]
    assert 0 < slow.norm() < fast.norm()
    assert agent["return_range.high"] != 0


def make_config(*overrides: str) -> DreamerConfig:
    return read_settings(compose(*overrides, game=runs.CHASE, small=SMALL))[1]


def make_player(seed: int = 0, **around: Any) -> Dreamer:
    """With random weights that are not zero in any layer."""
    torch.manual_seed(seed)
    spaces = Spaces((3, 16, 16), Actions("numbered", 5))
    dreamer = DEFINITION.make(make_config(), Surroundings(spaces, Ranks(0, 1, CPU), torch.float32, **around))
    for each in dreamer.agent.parameters():
        each.data.add_(0.1 * torch.randn_like(each))
    return dreamer


def make_frames(*shape: int) -> Tensor:
    return torch.randint(256, (*shape, 3, 16, 16), dtype=torch.uint8)


def make_chase(num_envs: int) -> RealEnv:
    return make_env(GymConfig("pixel_game:Chase-v0", size=16), num_envs, 0, CPU)


@torch.no_grad()
def test_states_of_acting_are_stored() -> None:
    """Recomputed from the stored frames and actions, with the stored latents, in two environments."""
    dreamer, replay, episodes = make_player(), Replay(CPU, 60), {}
    replay.add_column("deter", (16,), torch.float32)
    replay.add_column("index", (4,), torch.uint8)

    def store(episode: Episode, episode_id: int | None) -> int:
        episode_id = replay.add_episode(episode, episode_id)
        episodes.setdefault(episode_id, []).append(episode)
        return episode_id

    collector = Collector(make_chase(2), dreamer.policy, store, epsilon=0.0)
    collector.begin()
    for _ in range(3):
        for _ in range(10):
            collector.step()
        collector.store_unfinished()
    columns, place, agent = replay.state_dict(), 0, dreamer.agent
    for parts in episodes.values():
        episode = Episode.joined(parts)
        tokens, state = agent.encoder(episode.obs), agent.rssm.initial(1)
        for step in range(len(episode)):
            before, is_first = episode.act[max(0, step - 1)][None], torch.tensor([step == 0])
            deter = agent.rssm.advance(state.reset(is_first), agent.rssm.embed_action(before, is_first))
            torch.testing.assert_close(deter[0], columns["deter"][place], atol=1e-5, rtol=0)
            index = columns["index"][place][None]
            assert (index < 4).all()
            state, place = type(state)(deter, agent.rssm.one_hot(index)), place + 1
        assert tokens.shape == (len(episode), 128)
    assert place == 60


def test_a_policy_forgets_where_an_episode_begins() -> None:
    policy = make_player().policy
    assert isinstance(policy, Thinker)
    frames = make_frames(2, 2)
    _, memory = policy.act(frames[:, 0], policy.initial(2), torch.ones(2, dtype=torch.bool))
    _, later = policy.act(frames[:, 1], memory, torch.tensor([False, True]))
    _, fresh = policy.act(frames[:, 1], policy.initial(2), torch.ones(2, dtype=torch.bool))
    assert torch.equal(later["deter"][1], fresh["deter"][1])
    assert not torch.equal(later["deter"][0], fresh["deter"][0])
    probs, value = policy.thoughts(later)
    torch.testing.assert_close(probs.sum(dim=-1), torch.ones(2))
    assert value.shape == (2,)


def test_a_policy_remembers_the_action_that_was_taken() -> None:
    policy = make_player().policy
    assert isinstance(policy, Rememberer)
    frames, is_first = make_frames(1, 2), torch.ones(1, dtype=torch.bool)
    _, memory = policy.act(frames[:, 0], policy.initial(1), is_first)
    deters = []
    for act in (1, 2, 2):
        taken = policy.took(memory, torch.tensor([act]))
        _, later = policy.act(frames[:, 1], taken, ~is_first)
        deters.append(later["deter"])
    assert not torch.equal(deters[0], deters[1])
    assert torch.equal(deters[1], deters[2])


class WatchedPolicy(DreamerPolicy):
    """Keeps the actions that it was told of."""

    def __init__(self, dreamer: Dreamer) -> None:
        super().__init__(dreamer.agent)
        self.taken: list[int] = []

    def took(self, memory: dict[str, Tensor], act: Tensor) -> dict[str, Tensor]:
        self.taken.append(int(act))
        return super().took(memory, act)


def test_actions_of_a_person_are_remembered() -> None:
    policy, env = WatchedPolicy(make_player()), make_chase(1)
    play = PlayEnv([Place("test", "real", env)], policy, ActionKeys(env.action_names), controller="human")
    for act in (1, 0, 4, 4):
        play.step(act)
        assert policy.taken[-1] == act


def test_random_actions_are_remembered() -> None:
    """Those of epsilon-greedy collection, which the policy did not choose; test episodes store no states."""
    stored: list[Episode] = []

    def store(episode: Episode, episode_id: int | None) -> int:
        stored.append(episode)
        return 0

    collector = Collector(make_chase(3), make_player().policy, store, epsilon=1.0)
    collector.begin()
    collector.step()
    memory = collector.state_dict()["groups"][0]["memory"]
    collector.store_unfinished()
    assert memory["act"].tolist() == [int(each.act[0]) for each in stored]
    assert {name: values.shape for name, values in stored[0].extra.items()} == {"deter": (1, 16), "index": (1, 4)}
    collector.begin(num_episodes=3)
    while not collector.is_complete:
        collector.step()
    assert stored[-1].extra == {}


def test_a_stored_episode_has_no_states(finished: Path) -> None:
    assert all(each.extra == {} for each in Dataset.open(finished / "dataset" / "train").episodes())
    (columns,) = stored_columns(finished)
    assert {name: values.shape for name, values in columns.items()} == {"deter": (110, 16), "index": (110, 4)}


def stored_columns(folder: Path) -> list[dict[str, Tensor]]:
    """Of each rank; there is one file, that of the last checkpoint."""
    (path,) = (folder / "checkpoints").glob("columns_*.pt")
    assert path.name == load_tensors(folder / "checkpoints" / "state.pt")["columns"]
    return load_tensors(path)


def test_lost_states_are_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Along all episodes with the weights of the checkpoint, which the recurrent part alone can confirm."""
    interrupted = make_trainer(tmp_path / "run", "training.precision=fp32", game=runs.CHASE, small=SMALL)
    component = interrupted.algorithm.components["dreamer"]
    stop_at(component, 5)
    with pytest.raises(Interrupted):
        interrupted.run()
    folder = interrupted.folder
    (path,) = folder.state.parent.glob("columns_*.pt")
    before = load_tensors(path)[0]
    path.unlink()
    trainer = again(folder)
    assert f"warning: There is no file {path}. It is computed again" in capsys.readouterr().err
    replay, agent, place = trainer.data.train.replay, trainer.algorithm.agent, 0
    after = replay.state_dict()
    assert {name: value.shape for name, value in after.items()} == {name: value.shape for name, value in before.items()}
    for episode in trainer.data.train.dataset.episodes():
        state = agent.rssm.initial(1)
        for step in range(len(episode)):
            is_first = torch.tensor([step == 0])
            act = agent.rssm.embed_action(episode.act[max(0, step - 1)][None], is_first)
            deter = agent.rssm.advance(state.reset(is_first), act)
            torch.testing.assert_close(deter[0], after["deter"][place].float(), atol=1e-5, rtol=0)
            state, place = State(deter, agent.rssm.one_hot(after["index"][place][None])), place + 1
    trainer.run()


@pytest.mark.parametrize("count", [1, 16])
def test_an_interrupted_run_resumes_exactly(finished: Path, tmp_path: Path, count: int) -> None:
    """Stopped after that many updates; at the first, and in the first and second epoch."""
    trainer = make_trainer(tmp_path / "run", game=runs.CHASE, small=SMALL)
    stop_at(trainer.algorithm.components["dreamer"], count)
    with pytest.raises(Interrupted):
        trainer.run()
    again(trainer.folder).run()
    assert runs.content(trainer.folder.path) == runs.content(finished)


def stop_at(component: Component, count: int) -> None:
    """Let this process get SIGTERM after that many updates."""
    update = component.update

    def update_and_stop() -> None:
        update()
        if component.num_updates == count:
            signal.raise_signal(signal.SIGTERM)

    component.update = update_and_stop


def again(folder: RunFolder) -> Trainer:
    config = folder.load_config()
    definition, typed = read_settings(config)
    return Trainer(definition, typed, folder, Ranks(0, 1, CPU), OmegaConf.to_container(config, resolve=True))


@pytest.mark.slow
def test_killed_at_eight_random_moments_it_ends_the_same(finished: Path, tmp_path: Path) -> None:
    """With a checkpoint after every step, each kill is before some change of a file."""
    folder, rng = tmp_path / "run", random.Random(0)
    plan = [(signal.SIGKILL, "", rng.randint(20, 90)) for _ in range(8)]
    path = f"{PROJECT / 'tests'}:{PROJECT / 'src'}:{runs.environment()['PYTHONPATH']}"
    script = PROJECT / "tests" / "faults" / "killed_run.py"
    arguments = [sys.executable, script, folder, json.dumps(plan), *SMALL, "checkpointing.minutes=0"]
    result = runs.run(arguments, PYTHONPATH=path, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    assert runs.content(folder) == runs.content(finished)


def draw_starts(count: int, length: int, with_full_frames: bool) -> Batch:
    """Random frames and actions, of episodes that began before."""
    zeros = torch.zeros(count, length)
    segments = Segments(np.arange(count), np.full(count, 7), length)
    mask = torch.ones(count, length, dtype=torch.bool)
    frames, act = make_frames(count, length), torch.randint(5, (count, length))
    return Batch(frames, act, zeros, zeros.byte(), zeros.byte(), mask, frames[:, 0], segments=segments)


def test_the_imagined_environment() -> None:
    """It starts from real frames, ends at its horizon, and imagines the same frames under given actions."""
    world = make_player(draw_starts=draw_starts).world(3)
    world.horizon = 4
    start = world.reset()
    assert start.obs.shape == (3, 3, 16, 16)
    assert start.history.shape == (3, 1, 3, 16, 16)
    assert start.origin.tolist() == [[0, 8], [1, 8], [2, 8]]
    ages = torch.zeros(3, dtype=torch.int64)
    for _ in range(9):
        world.prepare(1)
        step = world.step(torch.randint(5, (3,)))
        ages += 1
        assert step.trunc.tolist() == (ages == 4).tolist()
        assert step.rew.isfinite().all()
        over = step.end | step.trunc
        assert torch.equal(step.obs[~over], step.final_obs[~over])
        ages[over] = 0


def test_the_header_says_how_likely_the_episode_goes_on() -> None:
    """The predicted probability is that of going on, times γ: at most γ for a good prediction."""
    player = make_player(draw_starts=draw_starts)
    out = getattr(player.agent, "continue").out
    out.weight.data.zero_()
    probability, discount = 0.4, make_config().dreamer.losses.discount
    out.bias.data.fill_(math.log(probability * discount / (1 - probability * discount)))
    world = player.world(1)
    world.reset()
    going_on = world.step(torch.zeros(1, dtype=torch.int64)).going_on
    assert float(going_on) == pytest.approx(probability, rel=1e-5)
    moment = Moment(make_frames(1), going_on=float(going_on))
    fields = header_fields(moment, Place("test", "imagined", world), 9, "policy", ActionKeys(("NOOP",)), True)
    shown = {each.label: each.text for each in fields}
    assert shown["continue"] == "0.400"
    assert {"reward", "value", "entropy"} <= shown.keys()


def test_rewards_are_zero_where_that_is_most_likely() -> None:
    """Otherwise they are expected values: here, of bins 0 and about 1 with equal logits, and of 0 with a larger one."""
    player = make_player(draw_starts=draw_starts)
    world, out = player.world(2), player.agent.reward.out
    bins = TwoHot(255).bins
    near_one = int((bins - 1).abs().argmin())
    for logit_of_zero, expected in ((9.9, 0.5), (10.1, 0.0)):
        out.weight.data.zero_()
        out.bias.data.fill_(-1e9)
        out.bias.data[near_one], out.bias.data[127] = 10.0, logit_of_zero
        rew = world.imagine(draw_starts(2, 2, False), torch.zeros(2, 0).long()).rew
        assert rew.flatten().tolist() == pytest.approx([expected * float(bins[near_one])] * 2, rel=0.06)
    assert bins[127] == 0
    assert not rew.any()


def test_imagination_follows_the_given_actions() -> None:
    """As step does; the noise is that of the same random state."""
    dreamer, length = make_player(draw_starts=draw_starts), 5
    world, batch, act = dreamer.world(2), draw_starts(2, 2, False), torch.randint(5, (2, length - 1))
    frames = []
    for acts in (act, act, (act + 1) % 5):
        torch.manual_seed(5)
        imagined = world.imagine(batch, acts)
        frames.append(imagined.obs)
        assert imagined.rew.isfinite().all()
        assert (imagined.rew.shape, imagined.rew.dtype) == ((2, length), torch.float32)
        assert (imagined.end.shape, imagined.end.dtype) == ((2, length), torch.bool)
    assert frames[0].shape == (2, length, 3, 16, 16)
    assert torch.equal(frames[0], frames[1])
    assert torch.equal(frames[0][:, 0], frames[2][:, 0])
    assert not torch.equal(frames[0][:, 1], frames[2][:, 1])


@torch.no_grad()
def test_reconstructions_are_of_the_states_after_the_frames() -> None:
    """Followed and decoded one by one; the noise is that of the same random state."""
    dreamer, batch = make_player(draw_starts=draw_starts), draw_starts(2, 3, False)
    agent, is_first, before = dreamer.agent, torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 1, dtype=torch.int64)
    torch.manual_seed(5)
    frames = dreamer.world(2).reconstruct(batch)
    torch.manual_seed(5)
    state = agent.rssm.initial(2)
    for step in range(3):
        observed = agent.rssm.observe(state, agent.encoder(batch.obs[:, step : step + 1]), before, is_first).state
        state = State(observed.deter[:, 0], observed.stoch[:, 0])
        before, is_first = batch.act[:, step : step + 1], torch.zeros_like(is_first)
        expected = 255 * agent.decoder(state.deter, state.stoch)
        torch.testing.assert_close(frames[:, step].float(), expected, atol=0.51, rtol=0)


def test_the_world_can_resume() -> None:
    torch.manual_seed(0)
    starts = {length: draw_starts(3, length, False) for length in (2,)}
    player = make_player(draw_starts=lambda count, length, with_full_frames: starts[length])
    one, other = player.world(3), player.world(3)
    one.reset()
    one.step(torch.tensor([0, 1, 2]))
    state = one.state_dict()
    now, age = state["now"], state["age"]
    other.load_state_dict({**state, "starts": {"segments": [], "used": None}})
    assert torch.equal(other.state_dict()["age"], age)
    assert torch.equal(other.state_dict()["now"]["deter"], now["deter"])


def test_padding_before_an_episode_is_ignored() -> None:
    """What was in the frames and actions before the first real frame changes nothing."""
    world, batch = make_player(draw_starts=draw_starts).world(2), draw_starts(2, 3, False)
    mask = torch.tensor([[False, True, True], [False, True, True]])
    frames = []
    for noise in (make_frames(2), make_frames(2)):
        obs = torch.cat((noise[:, None], batch.obs[:, 1:]), dim=1)
        act = torch.cat((torch.randint(5, (2, 1)), batch.act[:, 1:]), dim=1)
        torch.manual_seed(5)
        frames.append(world.imagine(replace(batch, obs=obs, act=act, mask_padding=mask), torch.zeros(2, 0).long()).obs)
    assert torch.equal(*frames)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("algorithm.size=13M", "algorithm.size=13M is unknown: there is 1M, 12M, 25M, 50M, 100M, 200M, 400M, auto."),
        ("agent.classes=300", "agent.classes=300 must be at least 2 and at most 256."),
        ("agent.bins=1", "agent.bins=1 must be at least 3 and at most 16383."),
        ("agent.deter=20", "agent.deter=20 cannot be divided into blocks=8 equal blocks."),
        ("agent.depth=3", "agent.depth=3 makes maps of 12 channels, which cannot be divided into blocks=8 equal"),
        ("agent.blocks=5", "agent.deter=16 cannot be divided into blocks=5"),
        (
            "env.train.size=20",
            "env.train.size=[20,20] does not lead to maps of 4×4 by halving: the size must be one of",
        ),
        ("env.train.size=[16,32]", "env.train.size=[16,32] does not lead to maps of 4×4"),
        ("static_dataset.path=data", "algorithm=dreamer collects its own experience: leave out static_dataset.path."),
        ("static_dataset.num_workers=4", "leave out static_dataset.num_workers."),
        ("training.offload_idle=true", "training.offload_idle=true needs an agent without a policy"),
        ("training.num_final_epochs=3", "training.num_final_epochs=3 must be 0: algorithm=dreamer learns while it"),
        ("evaluation.max_batches=3", "evaluation.max_batches=3 must be null: algorithm=dreamer has no test batches."),
        ("dreamer.prefill=105", "collection.train.num_steps_total=110 is too few: the first update needs 111 steps"),
        ("dreamer.length=1", "dreamer.length=1 must be at least 2"),
        ("dreamer.optimizer.lr=0", "dreamer.optimizer.lr=0 must be above 0"),
        ("agent.hiden=3", "agent.hiden is unknown. Did you mean hidden?"),
    ],
)
def test_mistakes_are_one_line(override: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        read_settings(compose(f"++{override}", game=runs.CHASE, small=SMALL))[1].check()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_disk_has_no_room_for_states(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training\.replay_device=disk is for static data sets"):
        make_trainer(tmp_path / "run", "training.replay_device=disk", game=runs.CHASE, small=SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--controller", "random", "-r"]])
def test_it_is_played(finished: Path, tmp_path: Path, options: list[str]) -> None:
    film = tmp_path / "film.mp4"
    play = [sys.executable, PROJECT / "src" / "play.py", "--run", finished, "--device", "cpu", "--trust"]
    result = runs.run([*play, "--video", film, "--steps", "12", *options], SDL_VIDEODRIVER="dummy")
    assert result.returncode == 0, result.stderr
    assert film.is_file()
