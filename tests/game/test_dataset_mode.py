"""Data set mode, in a real window under SDL's dummy driver, with posted keys."""

from pathlib import Path

import pytest
import torch

from data import Dataset, Episode
from errors import UserError
from game.dataset_env import DatasetEnv, open_datasets
from game_runs import fields, play

NAMES = ("NOOP", "FIRE", "RIGHT", "LEFT")


def episode(number: int, length: int, **info: torch.Tensor) -> Episode:
    """Frames that tell their episode and step; a reward of 1 at every third step."""
    obs = torch.zeros(length, 3, 8, 8, dtype=torch.uint8)
    obs[:, 0] = 20 * number
    obs[:, 1] = torch.arange(length)[:, None, None]
    steps = torch.arange(length)
    end = (steps == length - 1).byte()
    return Episode(obs, steps % 4, (steps % 3 == 0).float(), end, torch.zeros_like(end), dict(info))


@pytest.fixture
def env(tmp_path: Path) -> DatasetEnv:
    for name, count in (("test", 2), ("rec_wm_H", 1), ("train", 12)):
        data = Dataset(tmp_path / name)
        for number in range(count):
            data.add_episode(episode(number, 25))
        data.save_info()
    (tmp_path / "empty").mkdir()
    return DatasetEnv(open_datasets(list(tmp_path.iterdir())), NAMES)


def places(env: DatasetEnv, script: list) -> list[tuple[str, str, str]]:
    """Data set, episode and step after each key of the script."""
    player = play(env, script)
    shown = [fields(view) for view in player.views]
    return [(each["world"] if "world" in each else each["data set"], each["episode"], each["step"]) for each in shown]


def test_header_and_picture(env: DatasetEnv) -> None:
    player = play(env, ["right", "right", "right"])
    shown = fields(player.views[-1])
    assert shown == {
        "data set": "train",
        "episode": "0 of 0-11",
        "step": "3 of 0-24",
        "action": "LEFT",
        "reward": "+1",
        "end": "no",
        "trunc": "no",
        "return so far": "2",
        "to go": "7",
    }
    screen = player.screens[-1]
    assert tuple(screen[-1, screen.shape[1] // 2]) == (0, 3, 0)
    assert tuple(screen[-160, screen.shape[1] // 2]) == (0, 3, 0)


def test_steps(env: DatasetEnv) -> None:
    script = [
        "right",
        "page up",
        "left",
        "page down",
        "page down",
        "left",
        "page up",
        "return",
        "page up",
        "page up",
        "page up",
    ]
    steps = [step.split()[0] for _, _, step in places(env, script)]
    assert steps == ["1", "11", "10", "0", "0", "0", "10", "0", "10", "20", "24"]


def test_episodes_and_data_sets(env: DatasetEnv) -> None:
    script = ["right", "up", "up", "down", "down", "down", "m", "up", "up", "m", "m"]
    shown = [(name, episode.split()[0], step.split()[0]) for name, episode, step in places(env, script)]
    assert shown == [
        ("train", "0", "1"),
        ("train", "1", "0"),
        ("train", "2", "0"),
        ("train", "1", "0"),
        ("train", "0", "0"),
        ("train", "11", "0"),
        ("test", "0", "0"),
        ("test", "1", "0"),
        ("test", "0", "0"),
        ("rec_wm_H", "0", "0"),
        ("train", "0", "0"),
    ]


def test_jump_to_an_episode(env: DatasetEnv) -> None:
    player = play(env, ["1", "0", "return", "9", "9", "return", "7", "backspace", "3", "return", None])
    assert [view.message for view in player.views[:3]] == ["go to episode 1_", "go to episode 10_", ""]
    assert fields(player.views[2])["episode"] == "10 of 0-11"
    assert player.views[5].message == "there is no episode 99: 0 to 11"
    assert fields(player.views[5])["episode"] == "10 of 0-11"
    assert fields(player.views[9])["episode"] == "3 of 0-11"
    # The message is on the screen while digits are typed.
    typed, done = player.screens[1], player.screens[-1]
    assert (typed == (255, 176, 32)).all(axis=-1).any()
    assert not (done == (255, 176, 32)).all(axis=-1).any()


def test_space_plays_and_stops(env: DatasetEnv) -> None:
    shown = [
        step.split()[0]
        for _, _, step in places(env, ["space", None, None, "space", None, "page up", "page up", "space"])
    ]
    assert shown == ["1", "2", "3", "3", "3", "13", "23", "24"]
    assert not env.is_playing
    # At the end, it starts again.
    assert [step.split()[0] for _, _, step in places(env, ["space", None])] == ["1", "2"]


def test_the_final_observation_is_the_last_place(tmp_path: Path) -> None:
    data = Dataset(tmp_path / "test")
    data.add_episode(episode(1, 3, final_observation=torch.full((3, 8, 8), 200, dtype=torch.uint8)))
    data.save_info()
    env = DatasetEnv(open_datasets(list(tmp_path.iterdir())), ())
    player = play(env, ["page up"])
    shown = fields(player.views[-1])
    assert (shown["step"], shown["action"], shown["end"], shown["to go"]) == ("final", "-", "-", "0")
    assert tuple(player.screens[-1][-80, 160]) == (200, 200, 200)
    assert fields(play(env, ["left"]).views[0])["action"] == "2"


def test_denoising_trajectory_is_a_strip(tmp_path: Path) -> None:
    trajectory = torch.linspace(-1, 1, 4)[None, :, None, None, None].expand(3, -1, 3, 8, 8).half()
    data = Dataset(tmp_path / "rec_wm_H")
    data.add_episode(episode(1, 3, denoising_trajectory=trajectory.contiguous()))
    data.save_info()
    player = play(DatasetEnv(open_datasets(list(tmp_path.iterdir())), NAMES), [None])
    assert [len(view.strip) for view in play(player.playable, ["right", "right", "right"]).views] == [4, 4, 4]
    screen = player.screens[-1]
    assert [tuple(screen[-40, 40 + 80 * place]) for place in range(4)] == [(grey,) * 3 for grey in (0, 85, 170, 255)]


@pytest.mark.parametrize("key", ["escape", "q"])
def test_leaving(env: DatasetEnv, key: str) -> None:
    assert len(play(env, [None, key, None, None]).views) == 1


def test_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="There is no data set with an episode in this run"):
        open_datasets(list(tmp_path.iterdir()))
