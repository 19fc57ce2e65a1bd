"""The page, in a real headless Chromium: what a visitor sees, presses and gets."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from game.build import PlayConfig, open_stage
from game.dataset_env import DatasetEnv, open_datasets
from game_runs import CPU
from run.folder import RunFolder
from trained.source import Source
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

    def fields(self) -> dict[str, str]:
        return self.page.evaluate("Object.fromEntries(last.fields.map(each => [each.label, each.value]))")


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
        page.until("last.fields.find(each => each.label === 'step').value.startsWith('4 of')")
        expected = datasets["train"].load_episode(0).obs[4].permute(1, 2, 0).numpy()
        assert (page.pixels()[..., :3] == expected).all()
        with page.page.expect_download() as download:
            page.page.click("#download")
        download.value.save_as(tmp_path / "episode.mp4")
        assert (tmp_path / "episode.mp4").read_bytes()[4:8] == b"ftyp"


def test_a_wrong_token_and_a_lost_server_are_said(stage, visit: Callable[..., Page]) -> None:
    with serving(stage.player) as url:
        assert "Open the whole URL that the server printed" in visit(f"{url}x").text("body")
        page = visit(url)
        page.until("last && last.number > 1")
    page.until("$('veil').textContent !== ''")
    assert page.text("#veil") in ("The server was stopped.", "The connection was lost. Is the server still running?")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_cut_off(stage, visit: Callable[..., Page], tmp_path: Path, size: str, scheme: str) -> None:
    """The screenshot is kept in the folder that SCREENSHOTS names."""
    with serving(stage.player) as url:
        page = visit(url, size, scheme)
        page.until("last && last.number > 5")
        folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
        folder.mkdir(parents=True, exist_ok=True)
        page.page.screenshot(path=folder / f"play_{size}_{scheme}.png", full_page=True)
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
            page.page.touchscreen.tap(*_middle(page.page.locator("#touch button[aria-label='d']").bounding_box()))
            page.until("document.body.dataset.sequence > 1")


def _middle(box: dict[str, float]) -> tuple[float, float]:
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
