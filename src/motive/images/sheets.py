"""Contact sheets: rows of short strips of frames, each with words below it."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from motive.clips.table import clip_path, clip_span
from motive.images.palette import GREY, INK, WHITE
from motive.params import Clips
from motive.video.frames import evenly_spaced
from motive.video.reading import read_frames

HEIGHT = 64  # pixels of a frame in a strip, at least
GAP = 2  # pixels between frames
PAD = 14  # pixels between strips
TEXT = 12  # font size
LINES = 3  # of words below a strip
ABREAST = 3  # strips in a row on the sheet of a clip table
CLIPS = 24  # on that sheet


class Strip(NamedTuple):
    """Frames u8 [F,H,W,3] and the words below them."""

    frames: np.ndarray
    words: str


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` frames of a clip, evenly from the first to the last."""
    return frames[evenly_spaced(len(frames), count)]


def clip_strip(video: Path, span: dict[str, Any], clips: Clips) -> np.ndarray:
    """A few frames u8 [F,H,W,3] of a clip as the model sees it, small."""
    small = {"height": HEIGHT, "width": 2 * round(HEIGHT * clips.width / clips.height / 2)}
    reading = clips.model_dump(include={"num_frames", "fps", "resample", "max_pixels"}) | small
    return spread(read_frames(video, **reading, **span), 4)


def strip_sheet(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[Strip]]]) -> np.ndarray:
    """RGB u8 [H,W,3]: a head over each column, a name left of each row; a short row leaves its end white."""
    names = [name for name, _ in rows]
    images = [[_joined(strip.frames) for strip in strips] for _, strips in rows]
    grid = _grid(names, images)
    sheet = Image.new("RGB", grid.corner(len(rows), len(heads)), WHITE)
    _draw_names(sheet, grid, heads, names)
    for row, (_, strips) in enumerate(rows):
        for column, strip in enumerate(strips):
            _draw_strip(sheet, grid, row, column, images[row][column], strip.words)
    return np.asarray(sheet).copy()


class _Grid(NamedTuple):
    """Where strips lie on a sheet, in pixels."""

    left: int
    top: int
    image_width: int
    image_height: int

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """x and y."""
        height = self.image_height + LINES * (TEXT + 4) + PAD
        return self.left + column * (self.image_width + PAD), self.top + row * height


def _grid(names: Sequence[str], images: Sequence[Sequence[np.ndarray]]) -> _Grid:
    """Room for the largest of the images, and left of them for the longest name."""
    font = ImageFont.load_default(TEXT + 4)
    return _Grid(
        left=round(max(map(font.getlength, names))) + 2 * PAD,
        top=TEXT + 4 + 2 * PAD,
        image_width=max(image.shape[1] for row in images for image in row),
        image_height=max(image.shape[0] for row in images for image in row),
    )


def _draw_names(sheet: Image.Image, grid: _Grid, heads: Sequence[str], names: Sequence[str]) -> None:
    font = ImageFont.load_default(TEXT + 4)
    draw = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        draw.text((grid.corner(0, column)[0], PAD), head, INK, font)
    for row, name in enumerate(names):
        draw.text((PAD, grid.corner(row, 0)[1] + grid.image_height // 2 - TEXT), name, INK, font)


def _draw_strip(
    sheet: Image.Image, grid: _Grid, row: int, column: int, image: np.ndarray, words: str
) -> None:
    x, y = grid.corner(row, column)
    sheet.paste(Image.fromarray(image), (x, y))
    text = _wrapped(words, grid.image_width)
    font = ImageFont.load_default(TEXT)
    ImageDraw.Draw(sheet).multiline_text((x, y + image.shape[0] + 2), text, GREY, font)


def clip_sheet(
    clips: pd.DataFrame,
    num_frames: int,
    fps: float,
    height: int,
    width: int,
    resample: Literal["window", "stretch"],
) -> np.ndarray:
    """Some clips of a table, evenly over it, as the model will see them; RGB u8 [H,W,3]."""
    small_width = round(width * min(1.0, HEIGHT / height))
    standard = (num_frames, fps, min(height, HEIGHT), small_width, resample)
    rows: list[Any] = list(clips.iloc[evenly_spaced(len(clips), CLIPS)].itertuples())
    strips = []
    for row in rows:
        frames = read_frames(clip_path(row), *standard, **clip_span(row))
        strips.append(Strip(spread(frames, 4), _about(row)))
    abreast = [("", strips[i : i + ABREAST]) for i in range(0, len(strips), ABREAST)]
    return strip_sheet([""] * min(ABREAST, len(strips)), abreast)


def _about(row: Any) -> str:
    size = f"{row.width} x {row.height}, {row.fps:g} fps, {row.start:.2f} to {row.end:.2f} s"
    return f"{row.video}\n{size}\n{row.caption}"


def _joined(frames: np.ndarray) -> np.ndarray:
    """The frames side by side, small ones enlarged."""
    scale = max(1, -(-HEIGHT // frames.shape[1]))
    size = (frames.shape[2] * scale, frames.shape[1] * scale)
    cells = []
    for frame in frames:
        cell = cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST)
        cells.append(np.pad(cell, ((0, 0), (0, GAP), (0, 0)), constant_values=255))
    return np.concatenate(cells, axis=1)


def _wrapped(words: str, width: int) -> str:
    """Each line broken to a width in pixels; what the last line has no room for is cut."""
    letters = max(8, width * 2 // TEXT)
    lines = []
    for line in words.split("\n"):
        lines += textwrap.wrap(line, letters) or [""]
    return "\n".join([*lines[: LINES - 1], " ".join(lines[LINES - 1 :])[:letters]])
