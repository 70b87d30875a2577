"""Charts of numbers with their intervals, drawn with what draws the other images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROW, PLOT, GAP, TEXT = 24, 300, 28, 13  # pixels
WHITE, INK, GREY, BLUE = (255, 255, 255), (20, 20, 20), (190, 190, 190), (40, 90, 170)


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


def _plot(draw: ImageDraw.ImageDraw, x: int, title: str, line: float, bars: Sequence[Bar], font: Any) -> None:
    """One column: its axis goes from the lowest to the highest end of all bars."""
    ends = [line, *(end for bar in bars for end in (bar.low, bar.high))]
    low, width = min(ends), max(max(ends) - min(ends), 1e-9)

    def at(value: float) -> float:
        return x + (value - low) / width * (PLOT - GAP) + GAP / 2

    bottom = (len(bars) + 1) * ROW
    draw.text((x + PLOT / 2, ROW / 2), title, INK, font, anchor="mm")
    draw.line([(at(line), ROW), (at(line), bottom)], GREY, 1)
    for row, bar in enumerate(bars):
        y = (row + 1.5) * ROW
        draw.line([(at(bar.low), y), (at(bar.high), y)], BLUE, 3)
        draw.ellipse([at(bar.value) - 4, y - 4, at(bar.value) + 4, y + 4], BLUE)
    for value in (low, line, low + width):
        draw.text((at(value), bottom + ROW / 2), f"{value:.2g}", INK, font, anchor="mm")
