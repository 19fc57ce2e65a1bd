"""From a view to a picture: the same in a window and in a film."""

import os
from functools import lru_cache
from pathlib import Path

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import matplotlib
import numpy as np
import pygame
from torch import Tensor

from game.view import Bar, Field, View

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
BACKGROUND, DIM, BRIGHT, ACCENT = (22, 22, 27), (140, 140, 150), (240, 240, 240), (255, 176, 32)
LEAST_WIDTH = 320
MARGIN = 6
BAR_HEIGHT = 36
PREVIEW_HEIGHT = 60
GAP = 2


class Painter:
    """Draws frames below a header, enlarged by the largest whole number for which they fit into `size` pixels.

    `size` is the side of a square, or (width, height)."""

    def __init__(self, size: int | tuple[int, int], has_header: bool = True) -> None:
        pygame.font.init()
        self._room = (size, size) if isinstance(size, int) else size
        self._has_header = has_header

    def paint(self, view: View, *more: Field) -> pygame.Surface:
        """The picture of a view; `more` fields follow its own."""
        height, width = view.frame.shape[-2:]
        scale = max(1, min(self._room[0] // width, self._room[1] // height))
        full = max(width * scale, LEAST_WIDTH) // 2 * 2
        fields = (*view.fields, *more)
        font = _font(15 if full >= 480 else 12)
        preview = _preview_size(view) if self._has_header else (0, 0)
        room = full - 2 * MARGIN - preview[0] - (MARGIN if preview[0] else 0)
        rows = _lay_out(fields, room // font.size("0")[0])
        header = self._header_height(len(rows), bool(view.bars), font, preview[1])
        across, down = _thumbnail_size(view, full)
        picture = pygame.Surface((full, header + (height * scale + 1) // 2 * 2 + down))
        picture.fill(BACKGROUND)
        if self._has_header:
            _draw_header(picture, rows, view.bars, font)
            if view.preview is not None:
                picture.blit(_enlarge(view.preview, preview), (full - MARGIN - preview[0], MARGIN))
        picture.blit(_enlarge(view.frame, (width * scale, height * scale)), ((full - width * scale) // 2, header))
        for place, frame in enumerate(view.strip):
            small = _enlarge(frame, (across - 2, down - 2))
            picture.blit(small, (place * across + 1, picture.get_height() - down + 1))
        if view.message:
            band = _text(font, f" {view.message} ", ACCENT)
            picture.blit(band, (MARGIN, header + height * scale - band.get_height() - MARGIN))
        return picture

    def _header_height(self, num_rows: int, has_bars: bool, font: pygame.font.Font, least: int) -> int:
        if not self._has_header:
            return 0
        bars = BAR_HEIGHT + _line_height(font) if has_bars else 0
        return (2 * MARGIN + max(least, num_rows * _line_height(font) + bars)) // 2 * 2


def to_array(picture: pygame.Surface) -> np.ndarray:
    """The picture as uint8 (h, w, 3)."""
    width, height = picture.get_size()
    return np.frombuffer(pygame.image.tobytes(picture, "RGB"), np.uint8).reshape(height, width, 3)


def _lay_out(fields: tuple[Field, ...], columns: int) -> list[list[tuple[int, Field]]]:
    """Rows of (column, field), as many fields a row as fit with the widths they reserve."""
    rows, column = [[]], 0
    for field in fields:
        if rows[-1] and column + field.width > columns:
            rows.append([])
            column = 0
        rows[-1].append((column, field))
        column += field.width + GAP
    return rows


def _preview_size(view: View) -> tuple[int, int]:
    """Width and height of the preview: a whole multiple of its pixels."""
    if view.preview is None:
        return 0, 0
    height, width = view.preview.shape[-2:]
    scale = max(1, PREVIEW_HEIGHT // height)
    return width * scale, height * scale


def _thumbnail_size(view: View, full: int) -> tuple[int, int]:
    """Width and height of the strip's frames with their margins, in a picture of that width: even numbers."""
    if not view.strip:
        return 0, 0
    height, width = view.strip[0].shape[-2:]
    across = full // max(4, len(view.strip)) // 2 * 2
    return across, max(4, across * height // width // 2 * 2)


def _draw_header(
    picture: pygame.Surface, rows: list[list[tuple[int, Field]]], bars: tuple[Bar, ...], font: pygame.font.Font
) -> None:
    advance, line = font.size("0")[0], _line_height(font)
    for row, fields in enumerate(rows):
        for column, field in fields:
            x, y = MARGIN + column * advance, MARGIN + row * line
            if field.label:
                picture.blit(_text(font, field.label, DIM), (x, y))
                x += (len(field.label) + 1) * advance
            picture.blit(_text(font, field.value, BRIGHT), (x, y))
    if bars:
        _draw_bars(picture, bars, font, MARGIN + len(rows) * line)


def _draw_bars(picture: pygame.Surface, bars: tuple[Bar, ...], font: pygame.font.Font, top: int) -> None:
    room = (picture.get_width() - 2 * MARGIN) / len(bars)
    for place, bar in enumerate(bars):
        left, width = round(MARGIN + place * room), max(2, round(room) - 3)
        pygame.draw.rect(picture, (48, 48, 56), (left, top, width, BAR_HEIGHT))
        height = round(bar.share * BAR_HEIGHT)
        colour = ACCENT if bar.is_chosen else (90, 150, 220)
        pygame.draw.rect(picture, colour, (left, top + BAR_HEIGHT - height, width, height))
        sign = _text(font, bar.sign, ACCENT if bar.is_chosen else DIM)
        picture.blit(sign, (left + (width - sign.get_width()) // 2, top + BAR_HEIGHT))


def _enlarge(frame: Tensor, size: tuple[int, int]) -> pygame.Surface:
    """A uint8 frame (c, h, w), grey or RGB, enlarged without blur."""
    rgb = frame.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy()
    small = pygame.image.frombuffer(rgb.tobytes(), rgb.shape[1::-1], "RGB")
    return pygame.transform.scale(small, size)


def _line_height(font: pygame.font.Font) -> int:
    return font.get_linesize() + 2


@lru_cache
def _font(pixels: int) -> pygame.font.Font:
    return pygame.font.Font(str(FONT), pixels)


@lru_cache(maxsize=1024)
def _text(font: pygame.font.Font, text: str, colour: tuple[int, int, int]) -> pygame.Surface:
    return font.render(text, True, colour, BACKGROUND)
