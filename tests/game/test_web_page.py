"""The page, in a real headless Chromium: what a visitor sees, presses and gets.

Screenshots are kept in the folder that the environment variable SCREENSHOTS names.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data import Dataset
from game.build import PlayConfig, open_stage
from game.dataset_env import DatasetEnv, open_datasets
from game_runs import CPU, copy_run, make_two_stage_run
from run.folder import RunFolder
from trained.source import Source, load_source
from web_client import serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]
SIZES = {"desk": (1280, 800), "phone": (360, 740)}


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: requirements-test.txt has it")
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def stage(source: Source):
    return open_stage(source, PlayConfig(env="test", controller="human", seed=3, precision="fp32"), CPU)


@pytest.fixture(scope="module")
def pointed(tmp_path_factory: pytest.TempPathFactory):
    """A world that a person plays with keys and mouse."""
    run = make_two_stage_run(tmp_path_factory.mktemp("pointed"))
    return open_stage(load_source(run.path, None, False), PlayConfig(seed=3, precision="fp32"), CPU)


class Page:
    """A page that is open in a browser. Errors of its script are kept."""

    def __init__(self, browser, url: str, size: str = "desk", scheme: str = "light") -> None:
        width, height = SIZES[size]
        viewport = {"width": width, "height": height}
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, has_touch=size == "phone")
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)

    def until(self, holds: str, seconds: float = 60) -> None:
        """Wait until a JavaScript expression is true."""
        begun = time.monotonic()
        while not self.page.evaluate(f"Boolean({holds})"):
            assert time.monotonic() - begun < seconds, f"{holds} never holds; {self.page.inner_text('body')}"
            self.page.wait_for_timeout(30)

    def text(self, place: str) -> str:
        return self.page.inner_text(place)

    def pixels(self) -> np.ndarray:
        """The canvas, uint8 (h, w, 4)."""
        read = "[...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
        height, width = self.page.evaluate("[canvas.height, canvas.width]")
        return np.array(self.page.evaluate(read), np.uint8).reshape(height, width, 4)

    def middle_of(self, place: str) -> tuple[float, float]:
        box = self.page.locator(place).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def keep(self, name: str, whole: bool = False) -> None:
        """A screenshot in the folder that SCREENSHOTS names, if it names one."""
        if "SCREENSHOTS" in os.environ:
            self.page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / f"{name}.png", full_page=whole)

    def fields(self) -> dict[str, str]:
        return self.page.evaluate("Object.fromEntries(last.fields.map(each => [each.label, each.text]))")


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Page]]:
    pages = []

    def open_page(*arguments: str) -> Page:
        pages.append(Page(browser, *arguments))
        return pages[-1]

    yield open_page
    for page in pages:
        assert page.errors == []
        page.context.close()


def test_playing_with_keys(stage, visit: Callable[..., Page]) -> None:
    with serving(stage.player) as url:
        page = visit(url)
        page.until("last && last.number > 2")
        assert page.page.url.endswith("/")  # the token does not stay in the address
        page.page.keyboard.down("d")
        page.until("last.fields.find(each => each.label === 'action').value === 'RIGHT'")
        page.until("document.querySelector('#held b').textContent === 'd'")
        first = page.pixels()
        assert first.shape == (16, 16, 4)
        assert first[..., :3].std() > 0
        page.page.keyboard.up("d")
        page.until("last.fields.find(each => each.label === 'action').value === 'NOOP'")
        page.page.keyboard.down("Space")
        page.page.keyboard.down("a")
        page.until("last.number > 60")
        assert (page.pixels() != first).any()
        assert page.page.evaluate("document.body.dataset.latency").endswith(" ms")
        page.page.keyboard.press("h")
        assert page.page.evaluate("$('help').open") is False


def test_choosing_the_world_and_who_acts(stage, visit: Callable[..., Page]) -> None:
    with serving(stage.player) as url:
        page = visit(url)
        page.until("last && last.number > 1")
        page.page.select_option("#choice-env", "wm")
        page.until("last.choices.find(each => each.name === 'env').value === 'wm'")
        page.page.fill("#choice-horizon", "9")
        page.page.keyboard.press("Enter")
        page.until("last.choices.find(each => each.name === 'horizon').value === 9")
        page.page.select_option("#choice-controller", "policy")
        page.until("last.bars.some(each => each.is_chosen)")
        assert page.page.locator("#bars i").count() == 4
        page.page.fill("#choice-fps", "7")
        page.page.keyboard.press("Tab")
        page.until("last.shown.fps === 7")


def test_two_players_at_once(stage, visit: Callable[..., Page]) -> None:
    with serving(stage.player, 2) as url:
        pages = []
        for _ in range(3):
            # Each comes when the one before it has its seat.
            pages.append(visit(url))
            pages[-1].until("last && last.number > 1")
        one, two, three = pages
        assert "watching" not in one.text("#status") + two.text("#status")
        assert "watching" in three.text("#status")
        one.page.keyboard.down("d")
        one.until("last.fields.find(each => each.label === 'action').value === 'RIGHT'")
        assert two.fields()["action"] == "NOOP"


def test_looking_through_data(shared_run: RunFolder, visit: Callable[..., Page], tmp_path: Path) -> None:
    datasets = open_datasets([shared_run.dataset("test"), shared_run.dataset("train")])
    with serving(lambda number: DatasetEnv(datasets, ())) as url:
        page = visit(url)
        page.until("last && $('slider').max > 5")
        page.page.evaluate("$('slider').value = 4; $('slider').dispatchEvent(new Event('input'))")
        page.until("last.choices.find(each => each.name === 'step').value === 4")
        page.until("last.fields.find(each => each.label === 'step').value === 4")
        expected = datasets["train"].load_episode(0).obs[4].permute(1, 2, 0).numpy()
        assert (page.pixels()[..., :3] == expected).all()
        with page.page.expect_download() as download:
            page.page.click("#download")
        download.value.save_as(tmp_path / "episode.mp4")
        assert (tmp_path / "episode.mp4").read_bytes()[4:8] == b"ftyp"
        page.keep("data_desk_light")


def test_what_a_closed_page_recorded_is_kept(shared_run: RunFolder, visit: Callable[..., Page], tmp_path: Path) -> None:
    run = copy_run(shared_run, tmp_path / "run")
    stage = open_stage(load_source(run.path, None, False), PlayConfig(env="test", seed=3, record=True), CPU)
    with serving(stage.player) as url:
        page = visit(url)
        page.until("last && last.number > 5")
        assert "recording" in page.text("#status")
        page.page.close()
        begun = time.monotonic()
        while Dataset.open_if_any(run.dataset("rec_test_π")) is None:
            assert time.monotonic() - begun < 60
            time.sleep(0.1)
        assert Dataset.open(run.dataset("rec_test_π")).num_steps >= 4


def test_a_wrong_token_and_a_lost_server_are_said(stage, visit: Callable[..., Page]) -> None:
    with serving(stage.player) as url:
        assert "Open the whole URL that the server printed" in visit(f"{url}x").text("body")
        page = visit(url)
        page.until("last && last.number > 1")
    page.until("$('veil').textContent !== ''")
    assert page.text("#veil") in ("The server was stopped.", "The connection was lost. Is the server still running?")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_cut_off(stage, visit: Callable[..., Page], size: str, scheme: str) -> None:
    with serving(stage.player) as url:
        page = visit(url, size, scheme)
        page.until("last && last.number > 5")
        page.keep(f"play_{size}_{scheme}", whole=True)
        width, height = SIZES[size]
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        frame, stage_box = [page.page.locator(place).bounding_box() for place in ("#frame", "#stage")]
        for side, extent in (("x", "width"), ("y", "height")):
            assert stage_box[side] - 1 <= frame[side]
            assert frame[side] + frame[extent] <= stage_box[side] + stage_box[extent] + 1
        # The game is the largest thing to be seen at once.
        assert frame["width"] * frame["height"] > 0.25 * min(width, height) ** 2
        assert frame["y"] + frame["height"] <= height
        dark = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == ("rgb(246, 245, 242)" if scheme == "light" else "rgb(22, 22, 27)")
        if size == "phone":
            page.page.touchscreen.tap(*page.middle_of("#touch button[aria-label='d']"))
            page.until("document.body.dataset.sequence > 1")


def test_a_click_catches_the_pointer_and_the_mouse_looks(pointed, visit: Callable[..., Page]) -> None:
    with serving(pointed.player) as url:
        page = visit(url)
        page.until("last && last.pointer")
        x, y = page.middle_of("#frame")
        page.page.mouse.click(x, y)
        page.until("document.pointerLockElement === canvas")
        for step in range(400):
            page.page.mouse.move(x + 40 * (step % 2), y)
            if page.page.evaluate("last.held.some(each => /^[+-]40,/.test(each))"):
                break
        else:
            pytest.fail("no motion was shown")
        page.page.mouse.down()
        page.until("last.held.includes('left click')")
        page.keep("pointer_desk_light")
        aside = "document.querySelector('aside')"
        assert page.page.evaluate(f"{aside}.scrollWidth <= {aside}.clientWidth")
        page.page.mouse.up()
        page.until("!last.held.includes('left click')")
        # Whoever does not play any longer gets the pointer back.
        page.page.keyboard.press(".")
        page.until("document.pointerLockElement === null")
        page.page.mouse.click(x, y)
        page.until("last.status.includes('paused')")
        assert page.page.evaluate("document.pointerLockElement === null")


def test_the_whole_screen(stage, visit: Callable[..., Page]) -> None:
    with serving(stage.player) as url:
        page = visit(url)
        page.until("last && last.number > 2")
        small = page.page.locator("#frame").bounding_box()
        page.page.click("button[aria-label='Full screen']")
        page.until("document.fullscreenElement === stage")
        page.until("canvas.getBoundingClientRect().height > 0.9 * innerHeight")
        large = page.page.locator("#frame").bounding_box()
        assert large["width"] > small["width"]
        page.keep("full_screen")
        # Keys go on working.
        page.page.keyboard.down("d")
        page.until("last.held.includes('d')")
        page.page.evaluate("document.exitFullscreen()")
        page.until("document.fullscreenElement === null")
        page.until(f"Math.abs(canvas.getBoundingClientRect().width - {small['width']}) < 2")
