"""Playing a two-stage world with keyboard and mouse: a real window under the dummy driver, with posted events."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pygame
import pytest
import torch
from omegaconf import OmegaConf

import recordings
from algorithms import read_settings
from data import ActionLayout, Actions, Dataset, Episode
from data.full_frames import FILE_ID
from envs import RecordedGameConfig
from errors import UserError
from game.build import PlayConfig, build_play_env
from game.dataset_env import DatasetEnv, open_datasets
from game.layout_keys import LayoutKeys
from game.play_env import PlayEnv
from game.window.painter import Painter, to_array
from game.window.window import Window
from game_runs import LENGTH, NUM_GAMES, SCALE, Player, copy_run, fields, make_agent, make_two_stage_run, play
from run.folder import RunFolder
from run.interrupt import Interrupts
from trained.pretrained import load_pretrained
from trained.source import load_source
from training_helpers import CPU, compose

NUM_CONDITIONING = 2
ACTIONS = Actions("multi-hot", recordings.NUM_ACTIONS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_two_stage_run(tmp_path_factory.mktemp("two_stage"))


def make(folder: Path, *overrides: str, **settings: object) -> PlayEnv:
    config = PlayConfig(**{"seed": 3, "precision": "fp32", **settings})
    return build_play_env(load_source(folder, None, False, overrides), config, CPU)


def post(kind: int, **what: object) -> Callable[[], None]:
    return lambda: pygame.event.post(pygame.event.Event(kind, **what))


def move(x: int, y: int) -> Callable[[], None]:
    return post(pygame.MOUSEMOTION, rel=(x, y), pos=(5, 5), buttons=(0, 0, 0))


def actions(player: Player) -> list[str]:
    return [fields(view)["action"] for view in player.views]


def test_a_person_plays_with_keys_and_mouse(run: RunFolder) -> None:
    env = make(run.path)
    assert env.controller == "human"
    left, right = [{"button": button, "pos": (5, 5)} for button in (1, 3)]
    script = [
        None,  # the pointer is caught once the window is there
        "+w",
        "+d",
        "+s",  # against w, which is older
        "-w",
        "-s",
        "-d",
        move(60, -50),
        move(-3, 9),
        "left",
        "up",
        post(pygame.MOUSEBUTTONDOWN, **left),
        post(pygame.MOUSEBUTTONDOWN, **right),
        post(pygame.MOUSEBUTTONUP, **left),
        post(pygame.MOUSEBUTTONUP, **right),
        "+1",
        "+2",
        "-1",
        "-2",
        None,
    ]
    seen = actions(play(env, script))
    # A view is drawn after the tick for which its events were posted.
    assert seen[: len(script)] == [
        "-",
        "w",
        "w d",
        "s d",
        "s d",
        "d",
        "-",
        "+60,-50",
        *actions_near(env, (-3, 9)),
        "-60,+0",
        "+0,-50",
        "left click",
        "left click right click",
        "right click",
        "-",
        "1",
        "2",
        "2",
        "-",
        "-",
    ]


def actions_near(env: PlayEnv, motion: tuple[int, int]) -> list[str]:
    return [env.keys.name(env.keys.action([], motion))]


def test_the_pointer_is_caught_only_while_a_person_plays(run: RunFolder) -> None:
    env, states = make(run.path), []

    def look() -> None:
        # The dummy driver hides the pointer as told; it has none to grab.
        states.append(pygame.mouse.get_visible())

    # An event is handled, and the pointer follows it, one tick after it was posted.
    script = [None, None, look]
    for key in (".", ".", "m", "m"):
        script += [key, None, look]
    play(env, script)
    assert states == [False, True, False, True, False]
    assert not pygame.display.get_init()


def test_motion_counts_once_and_adds_up(run: RunFolder) -> None:
    env = make(run.path)

    def twice() -> None:
        move(20, 0)()
        move(40, 0)()

    seen = actions(play(env, [None, twice, None]))
    assert seen[1:3] == ["+60,+0", "-"]


def test_keys_of_the_game_are_no_commands(run: RunFolder) -> None:
    env = make(run.path)
    horizon = env.world.env.horizon
    player = play(env, [None, "up", "down", "left", "right", "page up", "page up", "page down", "."])
    assert [fields(view)["horizon"] for view in player.views][:5] == [str(horizon)] * 5
    assert env.world.env.horizon == horizon + 1
    assert env.is_paused


def test_it_starts_from_recordings_in_both_sizes(run: RunFolder) -> None:
    env = make(run.path, controller="replay")
    assert env.world.env.horizon == 1000
    source = load_source(run.path, None, False)
    assert source.full_res == run.path.parent / "data" / "full_res"
    view = env.view()
    assert view.frame.shape == (3, *recordings.FULL_SIZE)
    assert view.preview.shape == (3, *recordings.SMALL_SIZE)
    small = torch.nn.functional.interpolate(view.frame[None].float(), size=recordings.SMALL_SIZE, mode="area")
    assert (small[0] - view.preview.float()).abs().mean() < 8


@pytest.mark.parametrize(("keys", "horizon"), [([], 1000), ([], 2), (["return"], 1000), (["m", "return", "m"], 3)])
def test_replay_takes_the_actions_recorded_at_the_start(run: RunFolder, keys: list[str], horizon: int) -> None:
    """Full frame, small frame and actions of every start are of one game and step, until its recording is over."""
    games = [recordings.play(LENGTH, number) for number in range(NUM_GAMES)]
    env, seen, lengths = make(run.path, controller="replay", horizon=horizon), set(), set()
    for episode in range(6 if not keys and horizon > LENGTH else 15):
        view, acts = env.view(), env.recording.acts.numpy()
        step = LENGTH - len(acts)
        shown = view.frame.permute(1, 2, 0).numpy()
        matches = [
            number
            for number, (frames, actions) in enumerate(games)
            if (actions[step:] == acts).all() and (frames[step] == shown).all()
        ]
        assert len(matches) == 1
        assert torch.equal(view.preview, env.recording.obs)
        taken = []
        while len(taken) < min(len(acts), horizon, 2 * episode % 7 if keys else horizon):
            env.step()
            taken.append(env.now.act.numpy())
        assert np.array_equal(np.array(taken).reshape(-1, acts.shape[1]), acts[: len(taken)])
        seen.add((matches[0], step))
        lengths.add(len(taken))
        for key in keys:
            env.press(key)
        if not keys:
            # The horizon is reached, or the recording is over: the next start follows.
            env.step()
        assert env.now.step == 0
    assert len(seen) > 4
    assert len(lengths) > (2 if horizon > LENGTH else 0)


def test_m_hands_over_to_the_recording_and_back(run: RunFolder) -> None:
    env = make(run.path)
    player = play(env, [None, "m", None, "m", None])
    assert [fields(view)["who"] for view in player.views] == ["human", "replay", "replay", "human", "human"]
    recorded = env.recording.acts
    seen = actions(player)
    assert seen[1:3] == [env.keys.name(recorded[place]) for place in (1, 2)]


def test_both_sizes_are_drawn(run: RunFolder) -> None:
    env = make(run.path)
    view = env.view()
    shown = to_array(Painter(400).paint(view))
    height, width = recordings.FULL_SIZE
    full = view.frame.permute(1, 2, 0).numpy().repeat(4, 0).repeat(4, 1)
    assert (shown[-4 * height :, (shown.shape[1] - 4 * width) // 2 :][:, : 4 * width] == full).all()
    small = view.preview.permute(1, 2, 0).numpy().repeat(5, 0).repeat(5, 1)
    top, left = 6, shown.shape[1] - 6 - small.shape[1]
    assert (shown[top : top + small.shape[0], left : left + small.shape[1]] == small).all()
    # Without a header, the frame alone.
    assert Painter(400, has_header=False).paint(view).get_size() == (400, 240)


def test_the_whole_screen(run: RunFolder) -> None:
    env = make(run.path)
    pygame.display.init()
    size = pygame.display.get_desktop_sizes()[0]
    player = Player(env, [None, None])
    Window("test", Painter(size), 1000, Interrupts(), is_full=True).show(player)
    assert player.screens[-1].shape[1::-1] == size
    assert player.screens[-1].max() > 0


def test_recordings_hold_multi_hot_actions_and_full_frames(run: RunFolder, tmp_path: Path) -> None:
    folder = copy_run(run, tmp_path / "run").path
    env = make(folder, record=True, store_original_obs=True)
    frames = [env.view().frame]
    player = play(env, ["+w", None, "-w", None])
    frames += [view.frame for view in player.views]
    data = Dataset.open(folder / "dataset" / "rec_wm_H")
    episode = data.load_episode(0)
    assert episode.act.shape == (len(episode), recordings.NUM_ACTIONS)
    assert episode.act[:, 0].tolist()[:4] == [1, 1, 0, 0]
    assert episode.obs.shape[1:] == (3, *recordings.SMALL_SIZE)
    for stored, shown in zip(episode.info["original_obs"], frames, strict=False):
        assert torch.equal(stored, shown)
    # What was recorded can be looked through.
    browser = DatasetEnv(open_datasets([data.directory]), (), env.keys.layout)
    assert fields(browser.view())["action"] == "w"


def test_samplers_are_chosen_by_name(run: RunFolder) -> None:
    def steps(*overrides: str) -> tuple[int, int, int]:
        parts = make(run.path, *overrides).world.env.parts()
        first, second = [parts[name][0].config for name in ("denoiser", "upsampler")]
        return first.num_steps_denoising, second.num_steps_denoising, second.order

    assert steps() == steps("world_model_env=fast") == (1, 1, 2)
    assert steps("world_model_env=higher_quality") == (3, 10, 1)
    one = "world_model_env.diffusion_sampler.num_steps_denoising=2"
    assert steps(one) == (2, 1, 2)
    assert steps("world_model_env=higher_quality", one) == (2, 10, 1)
    with pytest.raises(UserError, match="cannot be set when playing"):
        steps("denoiser.training.batch_size=3")
    assert make(run.path, "world_model_env.horizon=7").world.env.horizon == 7
    assert make(run.path, horizon=9).world.env.horizon == 9


def test_without_full_size_recordings_it_starts_with_enlarged_frames(run: RunFolder, tmp_path: Path) -> None:
    folder = copy_run(run, tmp_path / "run").path
    config = OmegaConf.load(folder / "config" / "trainer.yaml")
    config.static_dataset.path_full_res = str(tmp_path / "gone")
    OmegaConf.save(config, folder / "config" / "trainer.yaml")
    env = make(folder)
    assert env.view().frame.shape == (3, *recordings.FULL_SIZE)
    env.step(env.keys.action([]))
    config.static_dataset.path = str(tmp_path / "gone")
    OmegaConf.save(config, folder / "config" / "trainer.yaml")
    with pytest.raises(UserError, match="has nowhere to start: no data set of 2 steps, and no spawn folder"):
        make(folder)


def test_a_layout_for_another_agent_is_refused(run: RunFolder, tmp_path: Path) -> None:
    folder = copy_run(run, tmp_path / "run").path
    config = OmegaConf.load(folder / "config" / "trainer.yaml")
    config.env.test.actions.mouse_y = [0]
    OmegaConf.save(config, folder / "config" / "trainer.yaml")
    with pytest.raises(UserError, match="the agent's actions have 51 entries, but csgo has 37"):
        make(folder)
    with pytest.raises(UserError, match="--controller policy is not possible"):
        make(run.path, controller="policy")
    with pytest.raises(UserError, match="--env test does not exist for this run: it has wm"):
        make(run.path, env="test")


def test_keys_that_no_keyboard_has() -> None:
    with pytest.raises(UserError, match=r"has a key 'left crtl', which no keyboard has. Did you mean left ctrl"):
        LayoutKeys(ActionLayout(("w", "left crtl")))
    with pytest.raises(UserError, match="has a button 'left': there are left click, middle click, right click"):
        LayoutKeys(ActionLayout(("w",), buttons=("left",)))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the published repository's layout, with small networks."""
    root = tmp_path_factory.mktemp("hub")
    config = compose(game=[*recordings.CSGO, "static_dataset.path=/nowhere"], small=())
    agent = make_agent(read_settings(config)[1], ACTIONS, SCALE)
    for name in ("model", "config/agent", "config/env", "spawn"):
        (root / "csgo" / name).mkdir(parents=True)
    torch.save(dict(agent.state_dict()), root / "csgo" / "model" / "csgo.pt")
    OmegaConf.save(config.agent, root / "csgo" / "config" / "agent" / "csgo.yaml")
    (root / "csgo" / "config" / "env" / "csgo.yaml").write_text("train:\n  id: csgo\n  num_actions: 51\n")
    for number in range(3):
        spawn = root / "csgo" / "spawn" / str(number)
        spawn.mkdir()
        frames, acts = recordings.play(12, seed=number)
        full = frames[:NUM_CONDITIONING].transpose(0, 3, 1, 2)
        np.save(spawn / "full_res.npy", full)
        np.save(spawn / "low_res.npy", full[:, :, ::5, ::5])
        np.save(spawn / "act.npy", acts[:NUM_CONDITIONING].astype(np.uint8))
        np.save(spawn / "next_act.npy", acts[NUM_CONDITIONING:].astype(np.uint8))
        (spawn / "info.json").write_text(json.dumps({"map": "de_dust2"}))
    return root


def test_published_weights_start_at_their_spawn_places(hub: Path, tmp_path: Path) -> None:
    source = load_pretrained("csgo", hub, tmp_path)
    assert isinstance(source.config.env.test, RecordedGameConfig)
    env = build_play_env(source, PlayConfig(seed=1, precision="fp32", controller="replay"), CPU)
    assert isinstance(env.keys, LayoutKeys)
    assert (env.world.env.sampler.config.num_steps_denoising, env.world.env.horizon) == (1, 1000)
    firsts = {number: recordings.play(12, seed=number) for number in range(3)}
    seen = set()
    for _ in range(12):
        number = next(
            number
            for number, (frames, _) in firsts.items()
            if (env.view().frame.permute(1, 2, 0).numpy() == frames[NUM_CONDITIONING - 1]).all()
        )
        # The action that was taken at the last frame, and those after it.
        acts = firsts[number][1][NUM_CONDITIONING - 1 :]
        assert (env.recording.acts.numpy() == acts).all()
        assert torch.equal(env.recording.obs, env.view().preview)
        for act in acts[: len(seen)]:
            env.step()
            assert (env.now.act.numpy() == act).all()
        seen.add(number)
        env.reset()
    assert seen == {0, 1, 2}
    quality = load_pretrained("csgo", hub, tmp_path, ["world_model_env=higher_quality"])
    assert quality.config.world_model_env.diffusion_sampler_upsampling.num_steps_denoising == 10


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_published_weights_from_the_cache_by_the_door(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """What a download leaves, without network: a film of what recorded players did."""
    from huggingface_hub import constants

    import play as door

    repository = tmp_path / "cache" / "models--eloialonso--diamond"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(hub, repository / "snapshots" / COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(door, "PROJECT", tmp_path)

    def call(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["play.py", "--device", "cpu", "--pretrained", "CSGO", *arguments])
        return door.main()

    film = tmp_path / "film.mp4"
    assert call("--video", str(film), "--steps", "3", "-r", "world_model_env=fast") == 0
    assert film.stat().st_size > 1000
    data = Dataset.open(tmp_path / "outputs" / "pretrained" / "csgo" / "dataset" / "rec_wm_replay")
    assert data.num_steps == 3
    capfd.readouterr()
    assert call("-d", "--video", str(film), "--steps", "1") == 0
    assert "Data sets: rec_wm_replay (1 episodes)" in capfd.readouterr().out
    assert call("--benchmark", "1", "world_model_env=nonsense") == 2
    assert "nonsense" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        call("-d", "--video", str(film), "world_model_env=fast")
    assert "-d cannot be combined with -r, --benchmark or settings of imagination" in capfd.readouterr().err


def test_damaged_spawn_places_and_missing_files(hub: Path, tmp_path: Path) -> None:
    root = tmp_path / "hub"
    shutil.copytree(hub, root)
    for number in range(3):
        (root / "csgo" / "spawn" / str(number) / "act.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"act.npy cannot be read"):
        build_play_env(load_pretrained("csgo", root, tmp_path), PlayConfig(seed=1), CPU)
    for number in range(3):
        np.save(root / "csgo" / "spawn" / str(number) / "act.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"act.npy cannot be read: .*Python objects"):
        build_play_env(load_pretrained("csgo", root, tmp_path), PlayConfig(seed=1), CPU)
    shutil.rmtree(root / "csgo" / "spawn")
    with pytest.raises(UserError, match="There is nowhere to start"):
        build_play_env(load_pretrained("csgo", root, tmp_path), PlayConfig(seed=1), CPU)
    (root / "csgo" / "model" / "csgo.pt").unlink()
    with pytest.raises(UserError, match=r"has no csgo/model/csgo.pt"):
        load_pretrained("csgo", root, tmp_path)


def test_a_recorded_game_with_numbered_actions(tmp_path: Path) -> None:
    """Data of one's own needs no keyboard: actions can be numbers."""
    dataset = Dataset(tmp_path / "data" / "train")
    flags = torch.zeros(20, dtype=torch.uint8)
    frames = torch.randint(256, (20, 3, *recordings.SMALL_SIZE), dtype=torch.uint8)
    dataset.add_episode(Episode(frames, torch.arange(20) % 4, flags.float(), flags, flags, {FILE_ID: "a.mp4"}))
    dataset.save_info()
    overrides = [f"static_dataset.path={tmp_path / 'data'}", "agent.upsampler=null", "upsampler=null"]
    config = compose(game=[*recordings.CSGO, *overrides, "env.train.actions=null"], small=())
    folder = RunFolder.create(tmp_path / "run", config)
    make_agent(read_settings(config)[1], Actions("numbered", 4), SCALE).save(folder.agent_version(1))
    env = make(folder.path)
    player = play(env, ["+2", None, "-2", "+3", "-3"])
    assert actions(player)[:5] == ["2", "2", "0", "3", "0"]
