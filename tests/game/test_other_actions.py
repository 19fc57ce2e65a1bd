"""Playing worlds without keys: continuous actions, and none at all, on grey frames that are not square."""

from pathlib import Path

import pygame
import pytest
import torch
from omegaconf import OmegaConf

import recordings
from algorithms import read_settings
from data import Actions, Dataset
from errors import UserError
from game.build import PlayConfig, build_play_env
from game.dataset_env import DatasetEnv, open_datasets
from game.play_env import PlayEnv
from game.window.painter import Painter, to_array
from game_runs import CPU, call_door, copy_run, fields, make_agent, mark_data, play, read_film, read_mark
from run.folder import RunFolder
from trained.source import load_source
from training.data import spaces_of
from training_helpers import compose, train

FRAME = (1, 12, 20)
NUM_AXES = 3
SETTINGS = [
    *recordings.CSGO,
    "env.train.actions=null",
    "env.train.grayscale=true",
    "agent.upsampler=null",
    "upsampler=null",
    "agent.denoiser.inner_model.attn_depths=[0,0]",
]


def continuous_acts(number: int, steps: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.sin(number + axis + steps) for axis in range(NUM_AXES)], dim=1)


def no_acts(number: int, steps: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(steps), 0)


@pytest.fixture(scope="module")
def continuous(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was trained for a few updates on frames with continuous actions."""
    root = tmp_path_factory.mktemp("continuous")
    for split in ("train", "test"):
        mark_data(root / "data" / split, FRAME, continuous_acts)
    settings = [
        *SETTINGS,
        "training.num_final_epochs=1",
        "evaluation.untrained=false",
        "denoiser.training.steps_first_epoch=20",
        "denoiser.training.lr_warmup_steps=1",
        "denoiser.optimizer.lr=1e-2",
    ]
    return train(root / "run", f"static_dataset.path={root / 'data'}", game=settings, small=()).folder


@pytest.fixture(scope="module")
def passive(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with untrained networks, on frames at which nobody acted."""
    root = tmp_path_factory.mktemp("passive")
    data = mark_data(root / "data" / "train", FRAME, no_acts)
    config = compose(f"static_dataset.path={root / 'data'}", game=SETTINGS, small=())
    folder, (_, typed) = RunFolder.create(root / "run", config), read_settings(config)
    spaces = spaces_of(Dataset.open(data.directory), typed.env.train, None)
    assert spaces.actions == Actions("none", 0)
    make_agent(typed, spaces.actions, 0.05).save(folder.agent_version(1))
    return folder


@pytest.fixture(params=["continuous", "passive"])
def run(request: pytest.FixtureRequest) -> RunFolder:
    return request.getfixturevalue(request.param)


def make(folder: RunFolder, **settings: object) -> PlayEnv:
    config = PlayConfig(**{"seed": 3, "precision": "fp32", **settings})
    return build_play_env(load_source(folder.path, None, False), config, CPU)


def test_header_and_keys(continuous: RunFolder, passive: RunFolder) -> None:
    shown = [play(make(folder), [None, "m", "."]) for folder in (continuous, passive)]
    headers = [fields(player.views[0]) for player in shown]
    common = {"world": "world model", "who": "human", "step": "1", "horizon": "1000", "trunc": "no"}
    assert headers == [{**common, "action": "0 0 0"}, {**common, "action": "-"}]
    # `m` hands over to a recording.
    assert [fields(player.views[1])["who"] for player in shown] == ["replay", "replay"]
    recorded = shown[0].playable.recording.acts[1]
    assert fields(shown[0].views[1])["action"] == " ".join(f"{entry:.2g}" for entry in recorded.tolist())
    assert not any(view.bars for player in shown for view in player.views)
    assert [player.playable.keys.describe() for player in shown] == [
        "none for continuous actions (m: replay recorded ones)",
        "none, as nobody acts here",
    ]


def test_frames_keep_their_shape(run: RunFolder) -> None:
    env = make(run)
    assert env.view().frame.shape == FRAME
    shown = to_array(Painter(400, has_header=False).paint(env.view()))
    assert shown.shape == (240, 400, 3)
    assert (shown[::20, ::20] == env.view().frame[0, :, :, None].expand(-1, -1, 3).numpy()).all()
    env.step(env.keys.action([]))
    assert env.now.obs.shape == (1, *FRAME)


@pytest.mark.parametrize(("keys", "horizon"), [([], 1000), ([], 2), (["return"], 1000), (["m", "return", "m"], 3)])
def test_replay_takes_the_actions_recorded_at_the_start(run: RunFolder, keys: list[str], horizon: int) -> None:
    env, seen = make(run, controller="replay", horizon=horizon), set()
    acts = continuous_acts if run.path.parent.name.startswith("continuous") else no_acts
    for episode in range(12):
        number, step = read_mark(env.now.obs[0])
        recorded = acts(number, torch.arange(12))[step:]
        assert torch.equal(env.recording.obs, env.now.obs[0])
        assert torch.equal(env.recording.acts, recorded[: len(env.recording.acts)])
        length = min(len(env.recording.acts), horizon, episode % 5 if keys else horizon)
        for place in range(length):
            env.step()
            assert torch.equal(env.now.act, recorded[place])
        for key in keys:
            env.press(key)
        if not keys:
            # The horizon is reached, or the recording is over: the next start follows.
            env.step()
        assert env.now.step == 0
        seen.add((number, step))
    assert len(seen) > 5


def test_random_actions(continuous: RunFolder, passive: RunFolder) -> None:
    env = make(continuous, controller="random")
    drawn = []
    for _ in range(20):
        env.step()
        drawn.append(env.now.act)
    drawn = torch.stack(drawn)
    assert drawn.dtype == torch.float32
    assert drawn.shape == (20, NUM_AXES)
    assert -1 <= drawn.min() < -0.5
    assert 0.5 < drawn.max() <= 1
    env = make(passive, controller="random")
    for _ in range(3):
        env.step()
    assert env.now.act.shape == (0,)


def test_actions_matter(continuous: RunFolder) -> None:
    """The same start and the same noise, with other actions, give another frame."""
    frames = []
    for value in (-1.0, -1.0, 1.0):
        env = make(continuous)
        torch.manual_seed(0)
        env.step(torch.full((NUM_AXES,), value))
        frames.append(env.now.obs)
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])


def test_recordings_can_be_looked_through(run: RunFolder, tmp_path: Path) -> None:
    """What was recorded has the actions of the data it was made from."""
    source = load_source(run.path, None, False)
    static = Dataset.open(next(path for path in source.datasets if path.name == "train"))
    run = copy_run(run, tmp_path / "run")
    env = make(run, controller="random", record=True, store_denoising_trajectory=True)
    for _ in range(3):
        env.step()
    env.close()
    directory = run.dataset("rec_wm_random")
    episode = Dataset.open(directory).load_episode(0)
    assert Actions.of(episode.act) == Actions.of(static.load_episode(0).act)
    assert episode.obs.shape == (3, *FRAME)
    browser = DatasetEnv(open_datasets([directory]), ())
    words = " ".join(f"{entry:.2g}" for entry in episode.act[0].tolist()) or "-"
    assert fields(browser.view())["action"] == words
    # The strip of its denoising shows frames of the same shape.
    strip = browser.view().strip
    assert [frame.shape for frame in strip] == [FRAME] * len(strip)
    width = 400 // 4
    shown = to_array(Painter(400, has_header=False).paint(browser.view()))
    assert shown.shape == (240 + width * 12 // 20, 400, 3)


@pytest.mark.parametrize(
    "options",
    [[], ["--controller", "random"], ["--controller", "human"], ["-d"]],
    ids=["replay", "random", "human", "data set"],
)
def test_films(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    path = tmp_path / "film.mp4"
    common = ["--run", run.path, "--video", path, "--steps", "4", "--size", "400", "--no-header"]
    assert call_door(monkeypatch, *common, *options) == 0
    film = read_film(path)
    assert film.shape == (5, 240, 400, 3)
    # Grey, but for what the film's compression does to colours.
    assert abs(film[..., 0].astype(int) - film[..., 2]).max() < 8


def test_window_by_the_door(run: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    pygame.display.init()
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert call_door(monkeypatch, "--run", run.path) == 0
    assert "Keys: none" in capfd.readouterr().out


def test_benchmark(run: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    assert call_door(monkeypatch, "--run", run.path, "--benchmark", "2") == 0
    assert "world model: " in capfd.readouterr().out


def test_without_its_data_there_is_nowhere_to_start(run: RunFolder, tmp_path: Path) -> None:
    run = copy_run(run, tmp_path / "run")
    config = run.load_config()
    config.static_dataset.path = str(tmp_path / "gone")
    OmegaConf.save(config, run.config)
    with pytest.raises(UserError, match="has nowhere to start: no data set of 2 steps, and no spawn folder"):
        make(run)


def test_there_is_no_policy(run: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    assert call_door(monkeypatch, "--run", run.path, "--controller", "policy", "--benchmark", "1") == 2
    assert "--controller policy is not possible: this agent has no policy." in capfd.readouterr().err
