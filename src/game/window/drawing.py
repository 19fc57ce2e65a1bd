"""The parts of a picture: fields, returns, bars, and what is written over the frame."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import matplotlib
import pygame

from game.view import Bar, Field, Score, number

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
BACKGROUND, DIM, BRIGHT, ACCENT = (22, 22, 27), (140, 140, 150), (240, 240, 240), (255, 176, 32)
TROUGH, SHARE, PANEL = (48, 48, 56), (90, 150, 220), (22, 22, 27, 216)
MARGIN = 6
BAR_HEIGHT = 36
SCORE_HEIGHT = 34
GAP = 2
LEAST_FOR_NAMES = 44
"""Pixels of a bar that has room for a name."""


@dataclass(frozen=True)
class Overlay:
    """What is written over the frame: words of state, a banner, and keys with what they do."""

    status: tuple[str, ...] = ()
    banner: str = ""
    help: tuple[tuple[str, str], ...] = ()


def draw_fields(picture: pygame.Surface, rows: list[list[tuple[int, Field]]], font: pygame.font.Font, top: int) -> None:
    """Rows of (column, field)."""
    advance, line = font.size("0")[0], line_height(font)
    for row, fields in enumerate(rows):
        for column, field in fields:
            x, y = MARGIN + column * advance, top + row * line
            if field.label:
                picture.blit(_text(font, field.label, DIM), (x, y))
                x += (len(field.label) + 1) * advance
            picture.blit(_text(font, field.text, BRIGHT), (x, y))


def draw_top(picture: pygame.Surface, score: Score | None, words: tuple[str, str], right: int) -> None:
    """The return in large letters, those of the last and the best episode, and two lines of words up to `right`.

    The first line is cut where there is no room, the second one gets smaller letters: it holds every key.
    """
    large, small = font_of(26), font_of(12)
    left = MARGIN
    if score is not None:
        now = _text(large, number(score.now, 9), BRIGHT)
        picture.blit(now, (MARGIN, MARGIN - 2))
        left += max(now.get_width(), large.size("0000")[0]) + 2 * MARGIN
        for row, (label, value) in enumerate((("last", score.last), ("best", score.best))):
            shown = "–" if value is None else number(value, 9)
            picture.blit(_text(small, f"{label} {shown}", DIM), (left, MARGIN - 2 + row * (small.get_linesize() + 1)))
        left += small.size("best -12.345")[0]
    width = max(1, right - left - MARGIN)
    status, keys = words
    room = width // small.size("0")[0]
    status = status if len(status) <= room else f"{status[: max(0, room - 1)]}…"
    for row, text in enumerate((_text(small, status, BRIGHT), _shrink(_text(small, keys, ACCENT), width))):
        picture.blit(text, (right - MARGIN - text.get_width(), MARGIN - 2 + row * (small.get_linesize() + 1)))


def draw_bars(picture: pygame.Surface, bars: tuple[Bar, ...], font: pygame.font.Font, top: int) -> None:
    """The probabilities of the actions among which the last one was chosen."""
    room = (picture.get_width() - 2 * MARGIN) / len(bars)
    for place, bar in enumerate(bars):
        left, width = round(MARGIN + place * room), max(2, round(room) - 3)
        pygame.draw.rect(picture, TROUGH, (left, top, width, BAR_HEIGHT))
        height = round(bar.share * BAR_HEIGHT)
        colour = ACCENT if bar.is_chosen else SHARE
        pygame.draw.rect(picture, colour, (left, top + BAR_HEIGHT - height, width, height))
        words = [f"{bar.share:.0%}"]
        if width >= LEAST_FOR_NAMES and font.size(bar.name)[0] <= width:
            words.insert(0, bar.name)
        else:
            words.insert(0, bar.sign)
        for line, word in enumerate(words):
            text = _text(font, word, ACCENT if bar.is_chosen else DIM)
            if text.get_width() <= room:
                at = left + (width - text.get_width()) // 2, top + BAR_HEIGHT + line * line_height(font)
                picture.blit(text, at)


def draw_message(area: pygame.Surface, message: str, font: pygame.font.Font) -> None:
    band = _text(font, f" {message} ", ACCENT)
    area.blit(band, (MARGIN, area.get_height() - band.get_height() - MARGIN))


def draw_overlay(area: pygame.Surface, overlay: Overlay, font: pygame.font.Font) -> None:
    """Over the frame: the banner in the middle, and the keys."""
    if overlay.banner:
        text = _shrink(_text(font_of(font.get_linesize() + 2), f"  {overlay.banner}  ", BRIGHT), area.get_width())
        # Above the middle, where the keys are.
        area.blit(text, ((area.get_width() - text.get_width()) // 2, area.get_height() // 6))
    if overlay.help:
        _draw_help(area, overlay.help, font)


def _draw_help(area: pygame.Surface, keys: tuple[tuple[str, str], ...], font: pygame.font.Font) -> None:
    column = max(font.size(key)[0] for key, _ in keys) + 2 * MARGIN
    width = column + max(font.size(words)[0] for _, words in keys) + 2 * MARGIN
    height = len(keys) * line_height(font) + 2 * MARGIN
    panel = pygame.Surface((width, height), pygame.SRCALPHA)
    panel.fill(PANEL)
    for row, (key, words) in enumerate(keys):
        y = MARGIN + row * line_height(font)
        panel.blit(font.render(key, True, BRIGHT), (MARGIN, y))
        panel.blit(font.render(words, True, DIM), (MARGIN + column, y))
    panel = _shrink(panel, area.get_width(), area.get_height())
    area.blit(panel, [(whole - part) // 2 for whole, part in zip(area.get_size(), panel.get_size(), strict=True)])


def _shrink(picture: pygame.Surface, width: int, height: int | None = None) -> pygame.Surface:
    """Small enough for that room, with the same shape."""
    across, down = picture.get_size()
    factor = min(1.0, width / max(1, across), 1.0 if height is None else height / down)
    if factor == 1:
        return picture
    if picture.get_bitsize() < 24:
        # Letters have a palette, which cannot be interpolated.
        coloured = pygame.Surface((across, down), depth=32)
        coloured.blit(picture, (0, 0))
        picture = coloured
    return pygame.transform.smoothscale(picture, (max(1, int(across * factor)), max(1, int(down * factor))))


def line_height(font: pygame.font.Font) -> int:
    return font.get_linesize() + 2


@lru_cache
def font_of(pixels: int) -> pygame.font.Font:
    pygame.font.init()
    # Fonts crash after `pygame.quit`, which environments that draw with pygame call when they are closed.
    pygame.register_quit(font_of.cache_clear)
    pygame.register_quit(_text.cache_clear)
    return pygame.font.Font(str(FONT), pixels)


@lru_cache(maxsize=1024)
def _text(font: pygame.font.Font, text: str, colour: tuple[int, int, int]) -> pygame.Surface:
    return font.render(text, True, colour, BACKGROUND)
