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
from motive.params import Clips
from motive.video.frames import evenly_spaced
from motive.video.reading import read_frames

HEIGHT = 64  # pixels of a frame in a strip, at least
GAP, PAD = 2, 14  # pixels between frames and between strips
TEXT, LINES = 12, 3  # font size, and how many lines stand below a strip
ABREAST, CLIPS = 3, 24  # strips in a row, and clips, on the sheet of a clip table
WHITE, INK, GREY = (255, 255, 255), (20, 20, 20), (110, 110, 110)


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
    strips = [[(_joined(strip.frames), strip.words) for strip in row] for _, row in rows]
    width = max(image.shape[1] for row in strips for image, _ in row) + PAD
    height = max(image.shape[0] for row in strips for image, _ in row)
    font, small = ImageFont.load_default(TEXT + 4), ImageFont.load_default(TEXT)
    left = round(max(font.getlength(name) for name, _ in rows)) + 2 * PAD
    row_height, top = height + LINES * (TEXT + 4) + PAD, TEXT + 4 + 2 * PAD
    sheet = Image.new("RGB", (left + len(heads) * width, top + len(rows) * row_height), WHITE)
    draw = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        draw.text((left + column * width, PAD), head, INK, font)
    for index, ((name, _), row) in enumerate(zip(rows, strips, strict=True)):
        y = top + index * row_height
        draw.text((PAD, y + height // 2 - TEXT), name, INK, font)
        for column, (image, words) in enumerate(row):
            x = left + column * width
            sheet.paste(Image.fromarray(image), (x, y))
            draw.multiline_text((x, y + image.shape[0] + 2), _wrapped(words, width - PAD), GREY, small)
    return np.asarray(sheet).copy()


def clip_sheet(
    clips: pd.DataFrame,
    num_frames: int,
    fps: float,
    height: int,
    width: int,
    resample: Literal["window", "stretch"],
) -> np.ndarray:
    """Some clips of a table, evenly over it, as the model will see them; RGB u8 [H,W,3]."""
    height, width = min(height, HEIGHT), round(width * min(1.0, HEIGHT / height))
    chosen = evenly_spaced(len(clips), CLIPS)
    rows: list[Any] = list(clips.iloc[chosen].itertuples())
    strips = []
    for row in rows:
        frames = read_frames(clip_path(row), num_frames, fps, height, width, resample, **clip_span(row))
        size = f"{row.width} x {row.height}, {row.fps:g} fps, {row.start:.2f} to {row.end:.2f} s"
        strips.append(Strip(spread(frames, 4), f"{row.video}\n{size}\n{row.caption}"))
    abreast = [strips[i : i + ABREAST] for i in range(0, len(strips), ABREAST)]
    return strip_sheet([""] * min(ABREAST, len(strips)), [("", row) for row in abreast])


def _joined(frames: np.ndarray) -> np.ndarray:
    """The frames side by side, small ones enlarged."""
    scale = max(1, -(-HEIGHT // frames.shape[1]))
    size = (frames.shape[2] * scale, frames.shape[1] * scale)
    cells = [cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST) for frame in frames]
    return np.concatenate(
        [np.pad(cell, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for cell in cells], axis=1
    )


def _wrapped(words: str, width: int) -> str:
    """Each line broken to a width in pixels, cut with dots after the last line that fits."""
    letters = max(8, width * 2 // TEXT)
    lines = [part for line in words.split("\n") for part in textwrap.wrap(line, letters) or [""]]
    return "\n".join([*lines[: LINES - 1], " ".join(lines[LINES - 1 :])[:letters]])
