"""What the window's pictures show, and where."""

import itertools
import math
from pathlib import Path

import numpy as np
import pygame
import pytest
import torch

from data import Dataset, Episode
from game.dataset_env import DatasetEnv, open_datasets
from game.threads import choose_play_threads
from game.view import Bar, Ended, Field, Score, View
from game.window.drawing import ACCENT, BRIGHT, Overlay
from game.window.painter import NOTHING, Painter, to_array
from game.window.window import Window
from game_runs import Player, fields
from run.interrupt import Interrupts

FRAME = torch.arange(3 * 8 * 8, dtype=torch.uint8).reshape(3, 8, 8)
FIELDS = (Field("who", "policy", 12), Field("value", 0.125, 12, is_detail=True))


def view(**more: object) -> View:
    return View(FRAME, FIELDS, **more)


def letters(picture: np.ndarray, colour: tuple[int, int, int] = BRIGHT) -> int:
    return int((picture == colour).all(axis=-1).sum())


def test_details_are_folded_and_the_height_stays() -> None:
    painter = Painter(320)
    shown = to_array(painter.paint(view(score=Score(3))))
    painter.shows_details = True
    assert letters(to_array(painter.paint(view(score=Score(3))))) > letters(shown)
    painter.shows_details = False
    # A second row of fields is not taken back when it is empty.
    longer = View(FRAME, (*FIELDS, Field("more", "x", 60)), score=Score(3))
    height = painter.paint(longer).get_height()
    assert height > shown.shape[0]
    assert painter.paint(view(score=Score(3))).get_height() == height


def test_pictures_are_drawn_after_an_environment_has_quit_pygame() -> None:
    painter = Painter(320)
    before = to_array(painter.paint(view(score=Score(3))))
    for _ in range(2):
        pygame.init()
        pygame.quit()
        assert (to_array(painter.paint(view(score=Score(3)))) == before).all()


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (Field("horizon", None, 12), "-"),
        (Field("horizon", 50, 12), "50"),
        (Field("end", True, 7), "yes"),
        (Field("end", False, 7), "no"),
        (Field("step", 3, 12, unit=" of 0-9"), "3 of 0-9"),
        (Field("step", "final", 12, unit=" of 0-9"), "final"),
        (Field("reward", 1.0, 14, "+"), "+1"),
        # Nine characters have room for six digits, four for none.
        (Field("return", -1234.5678, 16), "-1234.57"),
        (Field("return", -123456.78, 11), "…"),
        (Field("return", -0.00012345, 16), "-0.000123"),
        (Field("entropy", 0.5, 17, ".2f", " bits"), "0.50 bits"),
        (Field("value", math.nan, 13), "nan"),
    ],
)
def test_values_are_raw_and_shown_as_text(field: Field, text: str) -> None:
    assert field.text == text


def test_the_return_is_the_largest_word() -> None:
    none, score = [to_array(Painter(320).paint(view(score=each))) for each in (None, Score(12, 3, 45))]
    assert letters(score[:40]) > letters(none[:40])
    assert score.shape[0] > none.shape[0]


def test_state_keys_and_banner_are_shown_and_leave_the_frame_alone() -> None:
    painter = Painter(320)
    plain = to_array(painter.paint(view(score=Score(1))))
    busy = to_array(painter.paint(view(score=Score(1), held=("w", "space", "left click"), status=("recording",))))
    assert (busy[-320:] == plain[-320:]).all()
    assert letters(busy[:-320], ACCENT) > letters(plain[:-320], ACCENT)
    for overlay in (Overlay(banner="return 3 · 12 steps"), Overlay(help=(("m", "hand over"),))):
        over = to_array(painter.paint(view(score=Score(1)), overlay=overlay))
        assert (over[-320:] != plain[-320:]).any()
        assert (over[:-320] == plain[:-320]).all()


def test_long_words_are_written_smaller_and_not_cut() -> None:
    """The last of many keys, and both ends of a banner."""
    keys = ("left shift", "left ctrl", "space", "w", "d", "r", "left click", "right click")
    one, other = [to_array(Painter(320).paint(view(score=Score(1), held=(*keys, last)))) for last in ("1", "2")]
    assert (one != other).any()
    banner = "return -123.456 · 1000 steps · horizon reached"
    plain, over = [to_array(Painter(320).paint(view(), overlay=Overlay(banner=each)))[-320:] for each in ("", banner)]
    rows = np.flatnonzero((over != plain).any(axis=(1, 2)))
    band = over[rows.min() : rows.max() + 1].astype(int)
    assert band.max() > 200
    assert (band[:, :3] < 60).all()
    assert (band[:, -3:] < 60).all()


def test_bars_have_names_and_numbers() -> None:
    bars = (Bar("→", 0.75, True, "RIGHT"), Bar("←", 0.25, False, "LEFT"))
    picture = to_array(Painter(320).paint(view(bars=bars)))
    columns = np.flatnonzero((picture == (90, 150, 220)).all(axis=-1).any(axis=0))
    assert columns.min() >= picture.shape[1] // 2
    chosen = (picture[:-320] == ACCENT).all(axis=-1)
    assert chosen[:, : picture.shape[1] // 2].sum() > 0.7 * 36 * (picture.shape[1] // 2 - 12)
    assert not chosen[:, picture.shape[1] // 2 :].any()


def test_smooth_frames_fill_the_room_and_have_more_colours() -> None:
    seen = View(torch.randint(256, (3, 8, 8), dtype=torch.uint8), ())
    nearest, smooth = [to_array(Painter(100, False, is_smooth).paint(seen)) for is_smooth in (False, True)]
    assert nearest.shape[0] == 96
    assert smooth.shape[0] == 100
    assert len(np.unique(smooth.reshape(-1, 3), axis=0)) > 10 * 64


def test_a_window_that_was_resized_fits_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = Painter(64)
    painter.paint(view())
    painter.resize((400, 500))
    width, height = painter.paint(view()).get_size()
    assert (width, height) <= (400, 500)
    assert width >= 392


class Counting(Painter):
    """Counts its pictures."""

    count = 0

    def paint(self, view: View, *more: Field, overlay: Overlay = NOTHING) -> pygame.Surface:
        self.count += 1
        return super().paint(view, *more, overlay=overlay)


def test_nothing_is_drawn_twice(tmp_path: Path) -> None:
    """However often the window looks at the keys between two frames."""
    env = DatasetEnv(open_datasets([make_data(tmp_path / "train", rewards=False)]), ())
    pygame.display.init()
    player, painter = Player(env, [None] * 4), Counting(64)
    Window("test", painter, 5, Interrupts(), seconds_of_help=0, seconds_of_banner=0).show(player)
    # Once more where a frame takes so long that the sign `thinking` comes and goes.
    assert len(player.views) <= painter.count + 1 <= 2 * len(player.views) + 1


def test_help_is_folded_by_its_keys(tmp_path: Path) -> None:
    env = DatasetEnv(open_datasets([make_data(tmp_path / "train", rewards=False)]), ())
    pygame.display.init()
    player = Player(env, [None, None, "h", None, None, "h", None])
    Window("test", Painter(640), 1000, Interrupts(), seconds_of_help=0, seconds_of_banner=0).show(player)
    bright = [letters(screen[-640:]) for screen in player.screens]
    assert [shows for shows, _ in itertools.groupby(count > 50 for count in bright)] == [False, True, False]


def make_data(path: Path, rewards: bool) -> Path:
    data, flags = Dataset(path), torch.zeros(4, dtype=torch.uint8)
    frames = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    data.add_episode(Episode(frames, flags.long(), torch.full((4,), float(rewards)), flags, flags))
    data.save_info()
    return path


@pytest.mark.parametrize("rewards", [True, False])
def test_data_without_rewards_show_none(tmp_path: Path, rewards: bool) -> None:
    env = DatasetEnv(open_datasets([make_data(tmp_path / "train", rewards)]), ())
    assert ("reward" in fields(env.view())) == rewards
    assert ("to go" in fields(env.view())) == rewards


def test_words_of_an_end() -> None:
    assert Ended(3, 2.5, 40, "game over").line == "Episode 3: return 2.5 · 40 steps · game over"
    assert Ended(1, 0, 9, "horizon reached", shows_return=False).words == "9 steps · horizon reached"


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seconds = {1: 0.4, 2: 0.1, 4: 0.3}
    before = torch.get_num_threads()
    monkeypatch.setattr("game.threads.seconds_with", seconds.__getitem__)
    torch.set_num_threads(4)
    try:
        assert choose_play_threads("auto") == 2
        assert torch.get_num_threads() == 4
        assert choose_play_threads(3) == 3
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        assert choose_play_threads("auto") == 4
    finally:
        torch.set_num_threads(before)
