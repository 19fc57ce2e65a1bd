"""From a view to a picture: the same in a window and in a film."""

import os

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import numpy as np
import pygame
from torch import Tensor

from game.view import Field, View
from game.window.drawing import (
    BACKGROUND,
    BAR_HEIGHT,
    GAP,
    MARGIN,
    SCORE_HEIGHT,
    Overlay,
    draw_bars,
    draw_fields,
    draw_message,
    draw_overlay,
    draw_top,
    font_of,
    line_height,
)

LEAST_WIDTH = 320
PREVIEW_HEIGHT = 60
NOTHING = Overlay()


class Painter:
    """Draws frames below a header, enlarged by the largest whole number for which they fit into `size` pixels.

    `size` is the side of a square, or (width, height). With `is_smooth`, frames fill that room, and are interpolated.
    """

    def __init__(self, size: int | tuple[int, int], has_header: bool = True, is_smooth: bool = False) -> None:
        self.shows_details = False
        self.is_resized = False
        self._room = (size, size) if isinstance(size, int) else size
        self._has_header = has_header
        self._is_smooth = is_smooth
        self._header = 0

    def resize(self, size: tuple[int, int]) -> None:
        """Fit the whole picture into (width, height) from now on."""
        self.is_resized = True
        self._room = size[0], max(1, size[1] - self._header)

    def paint(self, view: View, *more: Field, overlay: Overlay = NOTHING) -> pygame.Surface:
        """The picture of a view; `more` fields follow its own."""
        width, height = self._frame_size(view)
        full = max(width, LEAST_WIDTH) // 2 * 2
        fields = [each for each in (*view.fields, *more) if self.shows_details or not each.is_detail]
        font = font_of(15 if full >= 480 else 12)
        preview = _preview_size(view) if self._has_header else (0, 0)
        room = full - 2 * MARGIN - preview[0] - (MARGIN if preview[0] else 0)
        rows = _lay_out(fields, room // font.size("0")[0])
        header = self._header_height(len(rows), view, overlay, font, preview[1])
        across, down = _thumbnail_size(view, full)
        picture = pygame.Surface((full, header + (height + 1) // 2 * 2 + down))
        picture.fill(BACKGROUND)
        if self._has_header:
            top = MARGIN
            if _has_top(view, overlay):
                words = " · ".join((*overlay.status, *view.status)), " ".join(view.held)
                draw_top(picture, view.score, words, full - preview[0] - (MARGIN if preview[0] else 0))
                top += SCORE_HEIGHT
            draw_fields(picture, rows, font, top)
            if view.bars:
                draw_bars(picture, view.bars, font, top + len(rows) * line_height(font))
            if view.preview is not None:
                picture.blit(_enlarge(view.preview, preview), (full - MARGIN - preview[0], MARGIN))
        picture.blit(_enlarge(view.frame, (width, height), self._is_smooth), ((full - width) // 2, header))
        for place, frame in enumerate(view.strip):
            small = _enlarge(frame, (across - 2, down - 2))
            picture.blit(small, (place * across + 1, picture.get_height() - down + 1))
        area = picture.subsurface((0, header, full, max(1, height)))
        if self._has_header:
            draw_overlay(area, overlay, font)
        if view.message:
            draw_message(area, view.message, font)
        return picture

    def _frame_size(self, view: View) -> tuple[int, int]:
        height, width = view.frame.shape[-2:]
        scale = min(self._room[0] / width, self._room[1] / height)
        if self._is_smooth:
            return max(1, round(width * scale)), max(1, round(height * scale))
        return width * max(1, int(scale)), height * max(1, int(scale))

    def _header_height(self, num_rows: int, view: View, overlay: Overlay, font: pygame.font.Font, least: int) -> int:
        """As high as the highest so far: the window keeps its height between episodes."""
        if not self._has_header:
            return 0
        bars = BAR_HEIGHT + 2 * line_height(font) if view.bars else 0
        above = SCORE_HEIGHT if _has_top(view, overlay) else 0
        height = (2 * MARGIN + max(least, above + num_rows * line_height(font) + bars)) // 2 * 2
        self._header = height if self.shows_details else max(self._header, height)
        return self._header


def to_array(picture: pygame.Surface) -> np.ndarray:
    """The picture as uint8 (h, w, 3)."""
    width, height = picture.get_size()
    return np.frombuffer(pygame.image.tobytes(picture, "RGB"), np.uint8).reshape(height, width, 3)


def _lay_out(fields: list[Field], columns: int) -> list[list[tuple[int, Field]]]:
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


def _enlarge(frame: Tensor, size: tuple[int, int], is_smooth: bool = False) -> pygame.Surface:
    """A uint8 frame (c, h, w), grey or RGB, enlarged without blur, or interpolated."""
    rgb = frame.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy()
    small = pygame.image.frombuffer(rgb.tobytes(), rgb.shape[1::-1], "RGB")
    return pygame.transform.smoothscale(small, size) if is_smooth else pygame.transform.scale(small, size)


def _has_top(view: View, overlay: Overlay) -> bool:
    return view.score is not None or bool(view.status or view.held or overlay.status)
