"""Play mode, in a real window under SDL's dummy driver, with posted keys."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pygame
import pytest
import torch

from data import Dataset
from game.build import PlayConfig, build_play_env
from game.play_env import PlayEnv
from game.source import load_source
from game.view import number
from game_runs import CPU, fields, play
from run.folder import RunFolder

HORIZON = 6


@pytest.fixture
def folder(shared_run: RunFolder, tmp_path: Path) -> Path:
    """A run folder to record in."""
    shutil.copytree(shared_run.path, tmp_path / "run")
    return tmp_path / "run"


def make(folder: Path, **settings: object) -> PlayEnv:
    torch.manual_seed(1)
    config = PlayConfig(**{"horizon": HORIZON, "seed": 3, "precision": "fp32", **settings})
    return build_play_env(load_source(folder, None, False), config, CPU)


def world_model_never_ends(env: PlayEnv) -> None:
    """Let the imagined episode end at the horizon only."""
    end_bias = env.worlds[0].env.rew_end_model.head[2].weight
    end_bias.data[3:] = 0
    end_bias.data[4] -= 100 * env.worlds[0].env.rew_end_model.head[0].bias.sign()
    env.worlds[0].env.rew_end_model.head[0].bias.data *= 100


def test_header_and_picture(shared_run: RunFolder) -> None:
    env = make(shared_run.path)
    world_model_never_ends(env)
    player = play(env, [None, None])
    shown = fields(player.views[1])
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
def test_size_is_the_largest_multiple_that_fits(shared_run: RunFolder, size: int, scale: int) -> None:
    player = play(make(shared_run.path), [None], size, has_header=False)
    height, width = player.screens[-1].shape[:2]
    assert height == 16 * scale
    assert width == max(320, 16 * scale)


@pytest.mark.parametrize("size", [320, 640])
def test_nothing_of_the_header_is_cut_off(shared_run: RunFolder, size: int) -> None:
    """The header's last columns and the line above the frame stay background, whatever the values."""
    env = make(shared_run.path)
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


def test_return_resets(shared_run: RunFolder) -> None:
    env = make(shared_run.path, env="test")
    player = play(env, [None, None, "return", None])
    steps = [fields(view)["step"] for view in player.views]
    assert steps == ["1", "2", "1", "2"]


def test_m_switches_the_controller_and_keys_act(shared_run: RunFolder) -> None:
    env = make(shared_run.path, env="test")
    script = ["m", "+d", "+space", "-d", "-space", None, "m", None]
    player = play(env, script)
    shown = [(fields(view)["who"], fields(view)["action"]) for view in player.views]
    assert [action for _, action in shown[:6]] == ["NOOP", "RIGHT", "FIRE", "FIRE", "NOOP", "NOOP"]
    assert [who for who, _ in shown] == ["human"] * 6 + ["policy"] * 2


def test_a_short_tap_counts_for_one_step(shared_run: RunFolder) -> None:
    player = play(make(shared_run.path, env="test", controller="human"), ["a", None])
    assert [fields(view)["action"] for view in player.views] == ["LEFT", "NOOP"]


def test_keys_are_let_go_when_the_window_loses_the_focus(shared_run: RunFolder) -> None:
    def leave() -> None:
        pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))

    player = play(make(shared_run.path, env="test", controller="human"), ["+a", None, leave])
    assert [fields(view)["action"] for view in player.views] == ["LEFT", "LEFT", "NOOP"]


def test_chords_of_a_game_with_eighteen_actions() -> None:
    from envs import AtariConfig, make_env
    from game.keys import ActionKeys
    from game.play_env import World
    from models.actor_critic import ActorCritic, ActorCriticConfig

    real = make_env(AtariConfig("SeaquestNoFrameskip-v4", 16), 1, 0, CPU)
    policy = ActorCritic(ActorCriticConfig(8, 3, 16, (8,), (1,), real.num_actions))
    env = PlayEnv([World("test", "real (test)", real)], policy, ActionKeys(real.action_names), "human")
    player = play(env, ["+w", "+a", "+space", "-w", "-a"])
    actions = [fields(view)["action"] for view in player.views]
    assert actions[:5] == ["UP", "UPLEFT", "UPLEFTFIRE", "LEFTFIRE", "FIRE"]


def test_horizon(shared_run: RunFolder) -> None:
    env = make(shared_run.path, horizon=2)
    world_model_never_ends(env)
    player = play(env, ["up", "up", "down", None])
    assert [fields(view)["horizon"] for view in player.views] == ["3", "4", "3", "3"]
    env = make(shared_run.path, horizon=3)
    world_model_never_ends(env)
    player = play(env, [None] * 9)
    shown = [(fields(view)["step"], fields(view)["trunc"]) for view in player.views]
    # The last frame stays for a moment, then the next start is shown.
    episode = [("1", "no"), ("2", "no"), ("3", "yes"), ("0", "no")]
    assert shown == [*episode, *episode, ("1", "no")]
    play(env, ["down"] * 6)
    assert env.worlds[0].env.horizon == 1


def test_environments(shared_run: RunFolder) -> None:
    env = make(shared_run.path)
    player = play(env, ["right", "right", "right", "left", "left"])
    shown = [fields(view) for view in player.views]
    order = ["real (test)", "real (train)", "world model", "real (train)", "real (test)"]
    assert [each["world"] for each in shown] == order
    assert [each["horizon"] for each in shown] == ["-", "-", "6", "-", "-"]
    assert [each["step"] for each in shown] == ["1"] * 5


def test_pause_and_single_steps(shared_run: RunFolder) -> None:
    env = make(shared_run.path, env="test")
    player = play(env, [None, ".", None, "e", None, "e", ".", "e", None])
    assert [fields(view)["step"] for view in player.views] == ["1", "1", "1", "2", "2", "3", "4", "5", "6"]
    assert fields(player.views[2])["who"] == "policy (paused)"
    assert fields(player.views[-1])["who"] == "policy"


@pytest.mark.parametrize("key", ["escape", "q"])
def test_leaving(shared_run: RunFolder, key: str) -> None:
    player = play(make(shared_run.path), [None, key, None, None, None])
    assert len(player.views) == 1


def test_random_and_replay(shared_run: RunFolder) -> None:
    env = make(shared_run.path, controller="random", env="test")
    for _ in range(40):
        env.step()
    assert env.now.step == 40
    env = make(shared_run.path, controller="replay", horizon=1000)
    world_model_never_ends(env)
    drawn, taken = env._drawn, []
    while env._drawn is drawn:
        env.step()
        taken.append(env.now.act)
    # The recorded actions, from the start's last frame to the end; then another start.
    assert taken[:-1] == drawn.acts.tolist()
    assert taken[-1] is None
    assert (env.now.obs[0] == env._drawn.obs[-1]).all()


def test_a_recording_can_be_handed_to_after_a_reset_by_a_person(shared_run: RunFolder) -> None:
    env = make(shared_run.path, controller="replay", env="test")
    for key in ("m", "return", "m"):
        env.press(key)
    env.step()
    assert env.now.act == int(env._drawn.acts[0])


def test_imagination_begins_with_the_drawn_starts_in_order(shared_run: RunFolder) -> None:
    env = make(shared_run.path, horizon=2)
    for _ in range(25):
        assert (env.now.obs[0] == env._drawn.obs[-1]).all()
        while not (env.now.end or env.now.trunc):
            env.step()
        env.step()


@pytest.mark.parametrize("keys", [["return"], ["right", "left"]])
def test_starts_stay_in_step_when_a_last_frame_is_left(shared_run: RunFolder, keys: list[str]) -> None:
    env = make(shared_run.path, horizon=2, controller="replay")
    for _ in range(6):
        while not (env.now.end or env.now.trunc):
            env.step()
        for key in keys:
            env.press(key)
        assert (env.now.obs[0] == env._drawn.obs[-1]).all()


def test_numbers_stay_in_their_fields() -> None:
    for value in (0, -3, 12345.678, -0.00123456, 1e30, -1e-30, 2 / 3):
        for width in (7, 9):
            assert len(number(value, width)) <= width
            assert float(number(value, width)) == pytest.approx(value, rel=0.05)
    assert number(1.0, 7, "+") == "+1"


def test_the_policy_remembers_as_in_training(shared_run: RunFolder) -> None:
    """What the header shows of the policy is what it says with the memory of all frames of the episode."""
    env = make(shared_run.path, horizon=4)
    world_model_never_ends(env)
    frames = [*env._drawn.obs[:-1], env.now.obs[0]]
    for _ in range(3):
        env.step()
        frames.append(env.now.obs[0])
    memory = env.policy.initial_memory(1)
    with torch.no_grad():
        for frame in frames:
            logits, value, memory = env.policy.predict(frame[None], memory)
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
    world_model_never_ends(env)
    for _ in range(9):
        env.step()
    data = Dataset.open(folder / "dataset" / "rec_wm_π")
    assert data.lengths == [3, 3]
    assert data.load_episode(0).trunc.tolist() == [0, 0, 1]
    env.close()
    # Recordings go on in the same data set.
    env = make(folder, record=True, horizon=3)
    env.step()
    env.close()
    lengths = Dataset.open(folder / "dataset" / "rec_wm_π").lengths
    assert lengths[:3] == [3, 3, 1]
    assert len(lengths) == 4


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
        from game.window import Window
        from game_runs import Painter, Player
        from run.interrupt import Interrupts

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
    # The trajectory of a step ends in the frame behind it, and begins with noise.
    behind = torch.cat((imagined.obs[1:], imagined.info["final_observation"][None]))
    assert ((trajectory[:, -1].float() + 1) / 2 * 255 - behind.float()).abs().max() <= 1
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
    from game_runs import make_run

    folder = make_run(tmp_path / "run", "training.model_free=true", steps={})
    env = make(folder.path)
    assert [world.name for world in env.worlds] == ["test", "train"]


def test_a_game_that_is_not_here_can_still_be_imagined(
    shared_run: RunFolder, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    from omegaconf import OmegaConf

    folder = tmp_path / "run"
    shutil.copytree(shared_run.path, folder)
    config = OmegaConf.load(folder / "config" / "trainer.yaml")
    for split in ("train", "test"):
        config.env[split] = {"_target_": "envs.GymConfig", "id": "nowhere:Game-v0", "size": 16}
    OmegaConf.save(config, folder / "config" / "trainer.yaml")
    env = make(folder)
    warning = capfd.readouterr().err.strip()
    assert warning.startswith("warning: there is no real environment here. env.train.id=nowhere:Game-v0")
    assert "\n" not in warning
    assert [world.name for world in env.worlds] == ["wm"]
    assert env.keys.describe() == "0 0, 1 1, 2 2, 3 3"
    env.step()
