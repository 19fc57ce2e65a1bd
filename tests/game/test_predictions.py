"""Recorded episodes beside predictions, k steps ahead."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from algorithms import read_settings
from algorithms.base import World
from data import Actions, Batch, Dataset, Episode, to_unit_range
from data.full_frames import FILE_ID
from envs.kitchen import NUM_JOINTS, QUICK, Look
from errors import UserError
from game.build import PlayConfig, build_play_env
from game.inputs import SetController, SetDenoising
from game.live_env import CONTROLLERS
from game.prediction_env import MOST_JUMPS, PredictionEnv
from game.random_numbers import RandomNumbers
from game.view import View
from game.web.messages import Shown, read_message, write_view
from game_runs import call_door, copy_run, fields, make_agent, mark_data, play, read_film, read_mark
from kitchen_data import require_opengl
from models.diffusion import DiffusionSampler
from run.folder import RunFolder
from trained.source import load_source
from training_helpers import CPU, compose

SIDE, STRIDE, NUM_AXES, SCHEDULE = 16, 3, 2, 20
SMALL = (
    f"env.train.size=[{SIDE},{SIDE}]",
    f"static_dataset.stride={STRIDE}",
    "agent.denoiser.conditioning=actions",
    "agent.denoiser.inner_model.base_channels=8",
    "agent.denoiser.inner_model.channel_mults=[1,2]",
    "agent.denoiser.inner_model.time_emb_dim=8",
    "agent.denoiser.inner_model.time_emb_mlp_dim=16",
    "agent.denoiser.inner_model.num_heads_attn=2",
    "agent.denoiser.inner_model.num_groups_norm=4",
    f"agent.denoiser.schedule.num_steps={SCHEDULE}",
    "common.seed=3",
    "world_model_env.diffusion_sampler.num_steps_denoising=2",
)


def acts(number: int, steps: Tensor) -> Tensor:
    return torch.stack((steps / 10, torch.full_like(steps, number) / 10), dim=1).float()


def make_predictor_run(folder: Path, num_axes: int) -> RunFolder:
    """An untrained predictor, 3 steps ahead, and four test episodes of 9, 3, 12 and 7 marked frames."""

    def vectors(number: int, steps: Tensor) -> Tensor:
        return acts(number, steps).repeat(1, num_axes)[:, :num_axes]

    mark_data(folder / "data" / "test", (1, SIDE, SIDE), vectors)
    config = compose(f"static_dataset.path={folder / 'data'}", game=["+experiment=kitchen"], small=SMALL)
    made = RunFolder.create(folder / "run", config)
    agent = make_agent(read_settings(config)[1], Actions("continuous", STRIDE * num_axes), 0.1)
    agent.save(made.agent_version(1))
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_predictor_run(tmp_path_factory.mktemp("predictions"), NUM_AXES)


@pytest.fixture
def env(run: RunFolder) -> PredictionEnv:
    torch.manual_seed(0)
    return build_play_env(load_source(run.path, None, False), PlayConfig(precision="fp32"), CPU)


def panels(view: View) -> list[Tensor]:
    """Current, predicted, real frame and difference (c, h, w)."""
    return [view.frame[:, :SIDE, place * (SIDE + 2) :][:, :, :SIDE] for place in range(4)]


def watch(env: PredictionEnv, count: int) -> list[View]:
    """What is seen now, and after each of so many ticks."""
    views = [env.view()]
    for _ in range(count):
        env.tick([])
        views.append(env.view())
    return views


def first_pair(dataset: Dataset, episode_id: int, step: int) -> Batch:
    """The frame at a step and the actions of three steps, cut out by hand."""
    episode = dataset.load_episode(episode_id)
    nothing = torch.zeros(1, 1)
    act = episode.act[step : step + STRIDE].flatten()[None, None]
    flags = nothing.byte()
    return Batch(episode.obs[step][None, None], act, nothing, flags, flags, flags == 0, episode.obs[step][None])


def world(env: PredictionEnv) -> World:
    return env.predictor.world


def test_the_real_frame_is_three_steps_ahead_until_the_episode_ends(env: PredictionEnv) -> None:
    shown = [panels(view) for view in watch(env, 7)]
    assert [read_mark(current) for current, *_ in shown] == [(0, min(step, 5)) for step in range(8)]
    assert [read_mark(real) for _, _, real, _ in shown] == [(0, min(step, 5) + STRIDE) for step in range(8)]
    for _, predicted, real, difference in shown:
        assert torch.equal(difference.int(), (predicted.int() - real.int()).abs())
    assert env.is_still
    env.press("space")
    assert read_mark(panels(env.view())[0]) == (0, 0)
    assert not env.is_still


def test_an_episode_that_is_too_short_has_no_real_frame(env: PredictionEnv) -> None:
    env.press("up")
    current, predicted, real, difference = panels(watch(env, 2)[-1])
    assert read_mark(current) == (1, 0)
    assert predicted.any()
    assert not real.any()
    assert not difference.any()


def test_keys_choose_the_place_in_a_window(env: PredictionEnv) -> None:
    views = play(env, ["space", "right", "2", "return", "right", "right", "left", "up", "down", "return"]).views
    places = [read_mark(panels(view)[0]) for view in views]
    assert places == [(0, 0), (0, 1), (0, 1), (2, 0), (2, 1), (2, 2), (2, 1), (3, 0), (2, 0), (2, 0)]
    assert views[2].message == "go to episode 2_"
    assert fields(views[4])["step"] == "1 of 0-11"


def test_a_chain_is_the_prediction_fed_back_by_hand(env: PredictionEnv) -> None:
    env.press("up")
    env.press("up")
    env.press("right")
    env.press("c")
    env.predictor.random = RandomNumbers(1, CPU)
    views = watch(env, 3)
    assert [fields(view)["chain"] for view in views[:3]] == [f"{jump} of {MOST_JUMPS} jumps" for jump in (1, 2, 3)]
    batch, episode = first_pair(env.dataset, 2, 1), env.dataset.load_episode(2)
    later = torch.stack([episode.act[step : step + STRIDE].flatten() for step in (4, 7)])[None]
    with RandomNumbers(1, CPU):
        wanted = world(env).imagine(batch, later).obs[0]
    shown = [panels(view) for view in views[:3]]
    for place, (current, predicted, real, _) in enumerate(shown):
        assert torch.equal(predicted[:1], wanted[place])
        assert read_mark(real) == (2, 4 + 3 * place)
        if place > 0:
            assert torch.equal(current, shown[place - 1][1])
    # Frame 10 is the last whose successors are unknown: the chain is over, and another press goes back to real frames.
    assert env.is_still
    assert torch.equal(views[3].frame, views[2].frame)
    env.press("c")
    assert read_mark(panels(env.view())[0]) == (2, 7)


def test_a_chain_begins_again_after_twenty_jumps(env: PredictionEnv, tmp_path: Path) -> None:
    length = STRIDE * (MOST_JUMPS + 3)
    obs = torch.arange(length, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, SIDE, SIDE).contiguous()
    flags = torch.zeros(length, dtype=torch.uint8)
    dataset = Dataset(tmp_path / "long")
    dataset.add_episode(Episode(obs, acts(0, torch.arange(length)), flags.float(), flags, flags))
    dataset.save_info()
    long = PredictionEnv({"long": dataset}, env.predictor, STRIDE)
    long.press("c")
    views = watch(long, MOST_JUMPS + 1)
    jumps = [int(fields(view)["chain"].split()[0]) for view in views]
    assert jumps == [*range(1, MOST_JUMPS + 1), 1, 2]
    current = panels(views[MOST_JUMPS])[0]
    assert (current == STRIDE * MOST_JUMPS).all()


def test_keys_change_number_and_kind_of_sampling_steps(env: PredictionEnv) -> None:
    sampling = [fields(env.view())["sampling"]]
    for key in ("page up", "page up", "page up", "page up", "page up", "page down", "s", "s", "page down"):
        env.press(key)
        sampling.append(fields(env.view())["sampling"])
    numbers = ["2", "3", "5", "10", "20", "20", "10", "10", "10", "5"]
    kinds = ["DDIM"] * 7 + ["ancestral"] + ["DDIM"] * 2
    assert sampling == [f"{number} × {kind}" for number, kind in zip(numbers, kinds, strict=True)]


@pytest.mark.parametrize(("keys", "steps", "eta"), [((), 2, 0.0), (("page up", "s"), 3, 1.0)])
def test_a_change_of_sampling_takes_effect(env: PredictionEnv, keys: tuple[str, ...], steps: int, eta: float) -> None:
    env.view()
    for key in keys:
        env.press(key)
    env.press("right")
    env.predictor.random = RandomNumbers(2, CPU)
    predicted = panels(env.view())[1][:1]
    denoiser, batch = world(env).denoiser, first_pair(env.dataset, 0, 1)
    config = replace(
        load_source(find(env), None, False).config.world_model_env.diffusion_sampler, num_steps_denoising=steps, eta=eta
    )
    with RandomNumbers(2, CPU):
        frame, _ = DiffusionSampler(denoiser, config).sample(batch.frames, batch.act)
    assert torch.equal(to_unit_range(predicted), frame[0])


def find(env: PredictionEnv) -> Path:
    """The folder of the run whose data it shows."""
    return env.dataset.directory.parents[1] / "run"


def test_a_page_shows_it_and_sets_the_steps(env: PredictionEnv) -> None:
    command, _ = read_message('{"do": "set", "name": "denoising", "value": 7}')
    env.obey(command)
    view = env.view()
    assert fields(view)["sampling"] == "7 × DDIM"
    assert {choice.name: choice.value for choice in view.choices} == {
        "dataset": "test",
        "episode": 0,
        "step": 0,
        "denoising": 7,
    }
    assert write_view(view, Shown(1, 1))
    with pytest.raises(UserError, match=f"denoising=21 is not possible: it is from 1 to {SCHEDULE}"):
        env.obey(SetDenoising(21))


def test_film_and_benchmark(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    path = tmp_path / "film.mp4"
    assert call_door(monkeypatch, "--run", run.path, "--video", path, "--steps", 50, "--no-header") == 0
    # The last of its six places ends the film.
    film = read_film(path)
    assert len(film) == 6
    assert film.shape[2] == 640
    assert call_door(monkeypatch, "--run", run.path, "--benchmark", 8) == 0
    assert "predictions: " in capfd.readouterr().out


def test_any_world_can_be_compared(shared_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step ahead, in a game with numbered actions."""
    path = tmp_path / "film.mp4"
    words = ("--run", shared_run.path, "--env", "data", "--video", path, "--steps", 3, "--no-header")
    assert call_door(monkeypatch, *words) == 0
    assert len(read_film(path)) == 4


def test_mistakes(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def complain(*words: object) -> str:
        capfd.readouterr()
        assert call_door(monkeypatch, *words, "--video", tmp_path / "film.mp4") == 2
        return capfd.readouterr().err.strip().splitlines()[-1]

    assert "--env data and live cannot be combined with -r" in complain("--run", run.path, "--env", "data", "-r")
    assert "-r records what is played" in complain("--run", run.path, "-r")
    copy = copy_run(run, tmp_path / "copy")
    mark_data(copy.dataset("test"), (1, 8, 8), acts)
    assert f"The frames in {copy.dataset('test')} are (1, 8, 8), but those of {copy.path} are (1, 16, 16)." in complain(
        "--run", copy.path
    )


def test_the_look_of_the_data_is_read_from_its_episodes() -> None:
    assert Look.named_in(f"kitchen/scripted-v0 episode 3 (states, {QUICK})") == QUICK
    assert Look.named_in("pairs_k5_128x128.pkl") is None


@pytest.mark.slow
def test_the_real_frame_of_the_live_kitchen_appears_after_three_steps(tmp_path: Path) -> None:
    require_opengl()
    made = make_predictor_run(tmp_path, NUM_JOINTS)
    episode, train = Dataset.open(tmp_path / "data" / "test").load_episode(0), Dataset(tmp_path / "data" / "train")
    train.add_episode(replace(episode, info={FILE_ID: f"kitchen episode 0 (states, {QUICK})"}))
    train.save_info()
    source = load_source(made.path, None, False)
    live = build_play_env(source, PlayConfig(env="live", precision="fp32"), CPU)
    for controller in CONTROLLERS:
        live.obey(SetController(controller))
        views = [live.view()]
        for _ in range(2 * STRIDE + 1):
            live.tick(["1", "4"])
            views.append(live.view())
        shown = [panels(view) for view in views]
        happened = [STRIDE, 2 * STRIDE + 1]
        for place, (current, predicted, real, difference) in enumerate(shown):
            assert real.any() == (place in happened)
            if place in happened:
                assert torch.equal(real, current)
                assert torch.equal(predicted, shown[place - 1][1])
                assert torch.equal(difference.int(), (predicted.int() - real.int()).abs())
        assert not torch.equal(shown[STRIDE][0], shown[0][0])
        # A new prediction, before the kitchen moves.
        assert torch.equal(shown[STRIDE + 1][0], shown[STRIDE][0])
        assert not torch.equal(shown[STRIDE + 1][1], shown[STRIDE][1])
        assert [fields(view)["step"].split()[0] for view in views] == ["0", "1", "2", "3", "3", "4", "5", "6"]
        live.press("return")
    live.close()


def test_the_live_kitchen_needs_its_actions_and_the_simulator(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    words = ("--env", "live", "--video", tmp_path / "film.mp4")
    assert call_door(monkeypatch, "--run", run.path, *words) == 2
    assert "--env live is the simulated kitchen, whose actions are continuous (9 entries)" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "mujoco", None)
    fitting = make_predictor_run(tmp_path, NUM_JOINTS)
    assert call_door(monkeypatch, "--run", fitting.path, *words) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: Simulated robots need MuJoCo and Gymnasium-Robotics")
