"""Play mode, in a real window under SDL's dummy driver, with posted keys."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pygame
import pytest
import torch
from omegaconf import OmegaConf

from algorithms import read_settings
from algorithms.diamond.policy import ActorCriticPolicy
from data import Dataset, Segments, StoredReplay
from envs import AtariConfig, make_env
from game.build import PlayConfig, build_play_env
from game.keys import ActionKeys
from game.moment import Place
from game.play_env import PlayEnv
from game.random_numbers import RandomNumbers
from game.view import number
from game.window.painter import Painter
from game.window.window import Window
from game_runs import CPU, Player, fields, make_run, play, read_mark
from models.actor_critic import ActorCritic, ActorCriticConfig
from run.folder import RunFolder
from run.interrupt import Interrupts
from trained.source import Source, load_source

HORIZON = 6


@pytest.fixture
def folder(shared_run: RunFolder, tmp_path: Path) -> Path:
    """A run folder to record in."""
    shutil.copytree(shared_run.path, tmp_path / "run")
    return tmp_path / "run"


def make(run: Source | Path, **settings: object) -> PlayEnv:
    torch.manual_seed(1)
    config = PlayConfig(**{"horizon": HORIZON, "seed": 3, "precision": "fp32", **settings})
    return build_play_env(load_source(run, None, False) if isinstance(run, Path) else run, config, CPU)


def reach_step(env: PlayEnv, step: int) -> list[torch.Tensor]:
    """Play until an episode is not over at that step: an untrained world ends most of them earlier.

    Returns the frames of that episode.
    """
    frames = [env.now.obs[0]]
    while env.now.step < step or env.now.is_last:
        env.step()
        frames = [*frames, env.now.obs[0]] if env.now.step > 0 else [env.now.obs[0]]
    return frames


def test_header_and_picture(source: Source) -> None:
    env = make(source)
    reach_step(env, 1)
    player = play(env, [None, "."])
    shown = fields(player.views[0])
    assert shown["world"] == "world model"
    assert shown["who"] == "policy"
    assert shown["step"] == "2"
    assert shown["horizon"] == "6"
    assert shown["action"] in ("NOOP", "FIRE", "RIGHT", "LEFT")
    assert 0 < float(shown["entropy"].removesuffix(" bits")) <= 2
    assert set(shown) >= {"return", "reward", "end", "trunc", "value"}
    bars = player.views[1].bars
    assert [bar.sign for bar in bars] == ["·", "●", "→", "←"]
    assert sum(bar.share for bar in bars) == pytest.approx(1)
    assert sum(bar.is_chosen for bar in bars) == 1
    # The screen shows that frame, each pixel as a square of 10, below the header.
    screen, frame = player.screens[-1], player.views[-1].frame.permute(1, 2, 0).numpy()
    top = screen.shape[0] - 160
    left = (screen.shape[1] - 160) // 2
    assert (screen[top + 5 :: 10, left + 5 : left + 160 : 10] == frame).all()
    # The header has letters in it, and the bars' colour.
    assert (screen[:top] == 240).all(axis=-1).sum() > 100
    assert (screen[:top] == (255, 176, 32)).all(axis=-1).any()


@pytest.mark.parametrize(("size", "scale"), [(16, 1), (100, 6), (320, 20), (639, 39), (640, 40)])
def test_size_is_the_largest_multiple_that_fits(source: Source, size: int, scale: int) -> None:
    player = play(make(source), [None], size, has_header=False)
    height, width = player.screens[-1].shape[:2]
    assert height == 16 * scale
    assert width == max(320, 16 * scale)


@pytest.mark.parametrize("size", [320, 640])
def test_nothing_of_the_header_is_cut_off(source: Source, size: int) -> None:
    """The header's last columns and the line above the frame stay background, whatever the values."""
    env = make(source)
    for _ in range(3):
        env.step()
    env.now = replace(env.now, step=49, total=-123.456789, rew=-1.23456789, value=-2 / 3, act=2)
    env.is_paused = True
    player = play(env, [None], size)
    screen = player.screens[-1]
    header = screen[: screen.shape[0] - size]
    assert (header[:, -3:] == (22, 22, 27)).all()
    assert (header[-2:] == (22, 22, 27)).all()
    assert (header[:3] == (22, 22, 27)).all()


def test_return_resets(source: Source) -> None:
    env = make(source, env="test")
    player = play(env, [None, None, "return", None])
    steps = [fields(view)["step"] for view in player.views]
    assert steps == ["1", "2", "1", "2"]


def test_m_switches_the_controller_and_keys_act(source: Source) -> None:
    env = make(source, env="test")
    script = ["m", "+d", "+space", "-d", "-space", None, "m", None]
    player = play(env, script)
    shown = [(fields(view)["who"], fields(view)["action"]) for view in player.views]
    assert [action for _, action in shown[:6]] == ["NOOP", "RIGHT", "FIRE", "FIRE", "NOOP", "NOOP"]
    assert [who for who, _ in shown] == ["human"] * 6 + ["policy"] * 2


def test_a_short_tap_counts_for_one_step(source: Source) -> None:
    player = play(make(source, env="test", controller="human"), ["a", None])
    assert [fields(view)["action"] for view in player.views] == ["LEFT", "NOOP"]


def test_a_window_without_the_focus_is_paused_and_lets_its_keys_go(source: Source) -> None:
    def leave() -> None:
        pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))

    player = play(make(source, env="test", controller="human"), ["+a", None, leave, None, "."])
    shown = [fields(view) for view in player.views]
    assert [each["action"] for each in shown] == ["LEFT", "LEFT", "LEFT", "LEFT", "NOOP"]
    assert [each["step"] for each in shown] == ["1", "2", "2", "2", "3"]
    assert ["paused" in view.status for view in player.views] == [False, False, True, True, False]


def test_chords_of_a_game_with_eighteen_actions() -> None:
    real = make_env(AtariConfig("SeaquestNoFrameskip-v4", 16), 1, 0, CPU)
    policy = ActorCriticPolicy(ActorCritic(ActorCriticConfig(8, 3, 16, (8,), (1,), real.num_actions)))
    env = PlayEnv([Place("test", "real (test)", real)], policy, ActionKeys(real.action_names), "human")
    player = play(env, ["+w", "+a", "+space", "-w", "-a"])
    actions = [fields(view)["action"] for view in player.views]
    assert actions[:5] == ["UP", "UPLEFT", "UPLEFTFIRE", "LEFTFIRE", "FIRE"]


def test_horizon(source: Source) -> None:
    env = make(source, horizon=2)
    player = play(env, ["up", "up", "down", None])
    assert [fields(view)["horizon"] for view in player.views] == ["3", "4", "3", "3"]
    play(env, ["down"] * 6)
    assert env.worlds[0].env.horizon == 1


def test_episodes_end_at_the_horizon_at_the_latest(source: Source) -> None:
    player = play(make(source, horizon=3), [None] * 60)
    shown = [fields(view) for view in player.views]
    steps, ends, truncs = [[each[name] for each in shown] for name in ("step", "end", "trunc")]
    assert set(steps) == {"0", "1", "2", "3"}
    assert truncs == ["yes" if step == "3" else "no" for step in steps]
    assert "yes" in ends
    for place in range(len(shown) - 1):
        # The last frame stays for a moment, then the next start is shown.
        is_last = "yes" in (ends[place], truncs[place])
        assert steps[place + 1] == ("0" if is_last else str(int(steps[place]) + 1))


def test_environments(source: Source) -> None:
    env = make(source)
    player = play(env, ["right", "right", "right", "left", "left"])
    shown = [fields(view) for view in player.views]
    order = ["real (test)", "real (train)", "world model", "real (train)", "real (test)"]
    assert [each["world"] for each in shown] == order
    assert [each["horizon"] for each in shown] == ["-", "-", "6", "-", "-"]
    assert [each["step"] for each in shown] == ["1"] * 5


def test_pause_and_single_steps(source: Source) -> None:
    env = make(source, env="test")
    player = play(env, [None, ".", None, "e", None, "e", ".", "e", None])
    assert [fields(view)["step"] for view in player.views] == ["1", "1", "1", "2", "2", "3", "4", "5", "6"]
    assert fields(player.views[2])["who"] == "policy (paused)"
    assert fields(player.views[-1])["who"] == "policy"


@pytest.mark.parametrize("key", ["escape", "q"])
def test_leaving(source: Source, key: str) -> None:
    player = play(make(source), [None, key, None, None, None])
    assert len(player.views) == 1


def test_random_actions(source: Source) -> None:
    env = make(source, controller="random", env="test")
    for _ in range(40):
        env.step()
    assert env.now.step == 40


def test_recorded_actions_in_the_real_game(marked_run: RunFolder) -> None:
    """Whole recordings are replayed there, each from its first action to its last one."""
    data = Dataset.open(marked_run.dataset("test"))
    whole = [data.load_episode(episode_id).act.tolist() for episode_id in range(data.num_episodes)]
    env, seen = make(marked_run.path, controller="replay", env="test"), set()
    for _ in range(12):
        episode_id, step = read_mark(env.recording.obs)
        assert step == 0
        taken = []
        while len(taken) < len(whole[episode_id]):
            env.step()
            taken.append(env.now.act)
        assert taken == whole[episode_id]
        env.step()
        assert env.now.step == 0
        seen.add(episode_id)
    assert len(seen) > 1


def test_a_recording_can_be_handed_to_after_a_reset_by_a_person(source: Source) -> None:
    env = make(source, controller="replay", env="test")
    for key in ("m", "return", "m"):
        env.press(key)
    env.step()
    assert env.now.act == int(env.recording.acts[0])


@pytest.mark.parametrize(
    ("keys", "count"), [([], 40), (["return"], 40), (["m", "return", "return", "m"], 60), (["right", "left"], 40)]
)
def test_replay_takes_the_actions_recorded_at_the_start(marked_run: RunFolder, keys: list[str], count: int) -> None:
    """The start that is shown tells which actions were recorded there, wherever the episode before it was left."""
    env, data = make(marked_run.path, horizon=5, controller="replay"), Dataset.open(marked_run.dataset("test"))
    seen, lengths = set(), set()
    # More episodes than starts are drawn at once.
    assert count > read_settings(marked_run.load_config())[1].world_model_env.num_batches_to_preload
    for episode in range(count):
        origin = read_mark(env.now.obs[0])
        recorded = data.load_episode(origin[0]).act[origin[1] :]
        assert (env.recording.obs == env.now.obs[0]).all()
        assert torch.equal(env.recording.acts, recorded)
        taken, wanted = [], min(episode % 7, len(recorded))
        while len(taken) < wanted and not env.now.is_last:
            env.step()
            taken.append(env.now.act)
        assert taken == recorded[: len(taken)].tolist()
        seen.add(origin)
        lengths.add(len(taken))
        if (env.now.is_last and not keys) or len(taken) == len(recorded):
            # The next start follows by itself.
            env.step()
        else:
            for key in keys or ["return"]:
                env.press(key)
        assert env.now.step == 0
    assert len(seen) > count / 4
    assert len(lengths) > 3


def test_the_world_continues_from_the_start_that_is_shown(marked_run: RunFolder) -> None:
    """What is imagined first follows from the frames before the start, which the same recording holds."""
    env, data = make(marked_run.path, horizon=2, controller="replay"), Dataset.open(marked_run.dataset("test"))
    world, nothing = env.world.env, torch.zeros(1, 0, dtype=torch.int64)
    for _ in range(20):
        episode_id, step = read_mark(env.now.obs[0])
        first = step + 1 - world.num_context_steps
        segments = Segments(np.array([episode_id]), np.array([first]), world.num_context_steps)
        env.prepare_step()
        env.random = RandomNumbers(5, CPU)
        env.step()
        with RandomNumbers(5, CPU):
            expected = world.imagine(StoredReplay(data).gather(segments), nothing).obs[:, 0]
        assert torch.equal(expected, env.now.obs)
        env.press("return")


def test_numbers_stay_in_their_fields() -> None:
    for value in (0, -3, 12345.678, -0.00123456, 1e30, -1e-30, 2 / 3):
        for width in (7, 9):
            assert len(number(value, width)) <= width
            assert float(number(value, width)) == pytest.approx(value, rel=0.05)
    assert number(1.0, 7, "+") == "+1"


def test_the_policy_remembers_as_in_training(marked_run: RunFolder) -> None:
    """What the header shows of the policy is what it says with the memory of all frames of the episode."""
    env, data = make(marked_run.path, horizon=4), Dataset.open(marked_run.dataset("test"))
    frames = reach_step(env, 3)
    episode_id, step = read_mark(env.recording.obs)
    before = data.load_episode(episode_id).obs[step + 1 - env.world.env.num_context_steps : step]
    assert len(before) == 1
    actor_critic = env.policy.actor_critic
    memory = actor_critic.initial_memory(1)
    with torch.no_grad():
        for frame in [*before, *frames]:
            logits, value, memory = actor_critic.predict(frame[None], memory)
    assert env.now.value == pytest.approx(float(value), abs=1e-5)
    torch.testing.assert_close(torch.tensor(env.now.probs), logits.softmax(-1)[0], atol=1e-5, rtol=0)


def test_recording_across_players_and_worlds(folder: Path) -> None:
    env = make(folder, record=True, env="test")
    script = [None, None, "m", None, "right", None, None, "return", None, "m", None]
    player = play(env, script)
    frames = [view.frame for view in player.views]
    names = ["rec_test_π", "rec_test_H", "rec_train_H", "rec_train_π"]
    sets = {name: Dataset.open(folder / "dataset" / name) for name in names}
    # Policy for 2 ticks, human for 2, in the other world for 3 and (after a reset) 2, then the policy again.
    assert {name: data.lengths for name, data in sets.items()} == {
        "rec_test_π": [2],
        "rec_test_H": [2],
        "rec_train_H": [3, 2],
        "rec_train_π": [2],
    }
    assert env.recorder.counts == {"rec_test_π": 1, "rec_test_H": 1, "rec_train_H": 2, "rec_train_π": 1}
    policy, human = [sets[name].load_episode(0) for name in names[:2]]
    # No frame is lost where the controller changes.
    assert (policy.info["final_observation"] == human.obs[0]).all()
    assert (policy.obs[1:] == frames[0]).all()
    assert (human.obs[1] == frames[2]).all()
    assert (human.info["final_observation"] == frames[3]).all()
    assert policy.obs.shape == (2, 3, 16, 16)
    assert not policy.is_over


def test_finished_episodes_are_stored_at_once(folder: Path) -> None:
    env = make(folder, record=True, horizon=3)
    seen: list[tuple[int, bool, bool]] = []
    for _ in range(40):
        env.step()
        if env.now.is_last:
            seen.append((env.now.step, env.now.end, env.now.trunc))
            data = Dataset.open(folder / "dataset" / "rec_wm_π")
            assert data.lengths == [length for length, _, _ in seen]
    for episode_id, (length, end, trunc) in enumerate(seen):
        episode = data.load_episode(episode_id)
        assert episode.end.tolist() == [0] * (length - 1) + [int(end)]
        assert episode.trunc.tolist() == [0] * (length - 1) + [int(trunc)]
    assert {trunc for _, _, trunc in seen} == {True, False}
    env.close()
    # Later recordings are added to the same data set.
    lengths = Dataset.open(folder / "dataset" / "rec_wm_π").lengths
    env = make(folder, record=True, horizon=3)
    env.step()
    env.close()
    assert Dataset.open(folder / "dataset" / "rec_wm_π").lengths == [*lengths, 1]


@pytest.mark.parametrize("how", ["window", "signal", "error"])
def test_nothing_recorded_is_lost(folder: Path, how: str) -> None:
    def stop() -> None:
        if how == "signal":
            signal.raise_signal(signal.SIGINT)
        if how == "error":
            raise MemoryError

    before = signal.getsignal(signal.SIGINT)
    env = make(folder, record=True, env="train")
    if how == "error":
        with pytest.raises(MemoryError):
            play(env, [None, None, stop])
    else:
        pygame.display.init()
        interrupts = Interrupts()
        interrupts.listen()
        window = Window("test", Painter(64), 1000, interrupts)
        window.show(Player(env, [None, None, stop, *([None] * 20 if how == "signal" else [])]))
    signal.signal(signal.SIGINT, before)
    assert Dataset.open(folder / "dataset" / "rec_train_π").lengths == [3 if how == "window" else 2]


def test_what_is_stored_on_request(folder: Path) -> None:
    wish = {"precision": "bf16", "record": True, "store_denoising_trajectory": True, "store_original_obs": True}
    env = make(folder, **wish)
    play(env, [None, None, "right", None, None])
    imagined = Dataset.open(folder / "dataset" / "rec_wm_π").load_episode(0)
    trajectory = imagined.info["denoising_trajectory"]
    assert trajectory.shape == (len(imagined), 2, 3, 16, 16)
    # The trajectory of a step ends in the frame after it, and begins with noise.
    following = torch.cat((imagined.obs[1:], imagined.info["final_observation"][None]))
    assert ((trajectory[:, -1].float() + 1) / 2 * 255 - following.float()).abs().max() <= 1
    assert 0.8 < trajectory[:, 0].float().std() < 1.2
    assert "original_obs" not in imagined.info
    real = Dataset.open(folder / "dataset" / "rec_test_π").load_episode(0)
    assert real.info["original_obs"].shape == (len(real), 3, 210, 160)
    assert real.info["original_obs"].dtype == torch.uint8
    # It is the same frame, before it was made small.
    small = torch.nn.functional.interpolate(real.info["original_obs"].float(), (16, 16), mode="area")
    assert (small - real.obs.float()).abs().mean() < 2
    assert (small[1] - small[0]).abs().max() > 0 or (real.obs[1] == real.obs[0]).all()


def test_starts_are_collected_once_and_kept(
    shared_run: RunFolder, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(shared_run.path, folder)
    shutil.rmtree(folder / "dataset")
    env = make(folder)
    assert "Collecting starts" in capfd.readouterr().err
    data = Dataset.open(folder / "dataset" / "play_agent_epoch_00003")
    assert data.num_steps == 1000
    env.step()
    make(folder)
    assert "Collecting starts" not in capfd.readouterr().err


def test_model_free_runs_have_no_world_model(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "training.model_free=true", steps={})
    env = make(folder.path)
    assert [world.name for world in env.worlds] == ["test", "train"]


@pytest.mark.parametrize(
    ("trusts", "words"),
    [
        (True, "env.train.id=nowhere:Game-v0"),
        (False, "The environment id nowhere:Game-v0 in the run folder would import the module nowhere, which runs its"),
    ],
)
def test_a_game_that_is_not_here_can_still_be_imagined(
    shared_run: RunFolder, tmp_path: Path, capfd: pytest.CaptureFixture, trusts: bool, words: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(shared_run.path, folder)
    config = OmegaConf.load(folder / "config" / "trainer.yaml")
    for split in ("train", "test"):
        config.env[split] = {"_target_": "envs.GymConfig", "id": "nowhere:Game-v0", "size": 16}
    OmegaConf.save(config, folder / "config" / "trainer.yaml")
    source = load_source(folder, None, False, trusts=trusts)
    env = make(source)
    warning = capfd.readouterr().err.strip()
    assert warning.startswith(f"warning: there is no real environment here. {words}")
    assert "\n" not in warning
    assert [world.name for world in env.worlds] == ["wm"]
    assert env.keys.describe() == "0 0, 1 1, 2 2, 3 3"
    env.step()
