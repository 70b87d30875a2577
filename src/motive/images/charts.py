"""Charts of numbers with their intervals, drawn with what draws the other images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from motive.images.palette import BLUE, INK, LIGHT_GREY, WHITE

ROW = 24  # pixels, as all of these: a row's height
PLOT = 300  # a column's width
GAP = 28
TEXT = 13


class Bar(NamedTuple):
    """A number and the ends of its interval."""

    value: float
    low: float
    high: float


def interval_chart(names: Sequence[str], columns: dict[str, tuple[float, Sequence[Bar]]]) -> np.ndarray:
    """RGB u8 [H,W,3]: a row a name; of each column its title, a line to compare with, a bar a name."""
    font = ImageFont.load_default(TEXT)
    left = round(max(map(font.getlength, names))) + GAP
    image = Image.new("RGB", (left + len(columns) * (PLOT + GAP), (len(names) + 3) * ROW), WHITE)
    draw = ImageDraw.Draw(image)
    for row, name in enumerate(names):
        draw.text((GAP // 2, (row + 1.5) * ROW), name, INK, font, anchor="lm")
    for column, (title, (line, bars)) in enumerate(columns.items()):
        _plot(draw, left + column * (PLOT + GAP), title, line, bars, font)
    return np.asarray(image).copy()


class _Axis(NamedTuple):
    """Values from `low` on, over a column that begins at pixel `left`."""

    left: int
    low: float
    width: float

    def x(self, value: float) -> float:
        return self.left + (value - self.low) / self.width * (PLOT - GAP) + GAP / 2


def _plot(
    draw: ImageDraw.ImageDraw, left: int, title: str, line: float, bars: Sequence[Bar], font: Any
) -> None:
    """One column: its axis goes from the lowest to the highest end of all bars."""
    ends = [line, *(bar.low for bar in bars), *(bar.high for bar in bars)]
    axis = _Axis(left, min(ends), max(max(ends) - min(ends), 1e-9))
    bottom = (len(bars) + 1) * ROW
    draw.text((left + PLOT / 2, ROW / 2), title, INK, font, anchor="mm")
    draw.line([(axis.x(line), ROW), (axis.x(line), bottom)], LIGHT_GREY, 1)
    for row, bar in enumerate(bars):
        _draw_bar(draw, axis, (row + 1.5) * ROW, bar)
    for value in (axis.low, line, axis.low + axis.width):
        draw.text((axis.x(value), bottom + ROW / 2), f"{value:.2g}", INK, font, anchor="mm")


def _draw_bar(draw: ImageDraw.ImageDraw, axis: _Axis, y: float, bar: Bar) -> None:
    x = axis.x(bar.value)
    draw.line([(axis.x(bar.low), y), (axis.x(bar.high), y)], BLUE, 3)
    draw.ellipse([x - 4, y - 4, x + 4, y + 4], BLUE)
