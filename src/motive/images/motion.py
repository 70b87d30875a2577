"""Images of motion, RGB: optical flow by colour wheel, masks as heat over the frames, sheets of both."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from motive.images.palette import GREY, INK, WHITE
from motive.video.frames import evenly_spaced

Pixels = np.ndarray  # u8 [H,W,3]

CELL = 120  # pixels of a frame's shorter side on a sheet, or a little more
COLUMNS = 6  # frames shown of a clip
GAP = 4
MARGIN = 92  # for the names of the rows
WHEEL = 72  # side of the colour wheel


class Panel(NamedTuple):
    """One clip on a sheet: frames u8 [F,H,W,3], mask [T,h,w] in [0,1] if there is one.

    `flow` and `residual` (without the camera's part) [F,2,h,w] in pixels a frame.
    """

    title: str
    subtitle: str
    frames: np.ndarray
    flow: np.ndarray
    residual: np.ndarray
    mask: np.ndarray | None = None


class Text(NamedTuple):
    """Words and where they stand, in pixels."""

    words: str
    x: int
    y: int
    size: int = 12
    ink: tuple[int, int, int] = INK


def colour_wheel(flow: np.ndarray, top: float) -> np.ndarray:
    """Flow [F,2,h,w] as u8 [F,h,w,3]: the hue is the direction, white stands still, full colour is `top`."""
    dx = flow[:, 0]
    dy = flow[:, 1]
    strength = np.clip(np.hypot(dx, dy) / max(top, 1e-6), 0, 1)
    hue = np.degrees(np.arctan2(dy, dx)) % 360
    hsv = np.stack([hue, strength, np.ones_like(hue)], -1).astype(np.float32)
    rgb = np.stack([cv2.cvtColor(frame, cv2.COLOR_HSV2RGB) for frame in hsv])
    return (rgb * 255).round().astype(np.uint8)


def heat_overlay(frames: np.ndarray, mask: np.ndarray, time_stride: int) -> np.ndarray:
    """Mask [T,h,w] as heat over the greyed frames u8 [F,H,W,3]: what weighs nothing stays grey."""
    return np.stack([_heated(frame, mask[-(-f // time_stride)]) for f, frame in enumerate(frames)])


def _heated(frame: Pixels, weight: np.ndarray) -> Pixels:
    height, width = frame.shape[:2]
    weight = cv2.resize(weight.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, -1) * 0.75
    alpha = np.minimum(1.6 * weight, 0.8)
    return (grey * (1 - alpha) + _heat(weight[..., 0]) * alpha).astype(np.uint8)


def _heat(weight: np.ndarray) -> Pixels:
    levels = (np.clip(weight, 0, 1) * 255).round().astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


# ---- sheets


def motion_sheet(panels: Sequence[Panel], fps: float, time_stride: int = 1) -> Pixels:
    """Sheet of clips, two abreast, each with frames, optical flow and mask; below, what colours mean."""
    if not panels:
        return _canvas(400, 40, [Text("no clips", 8, 8, 16)])
    blocks = [_block(panel, fps, time_stride) for panel in panels]
    if len(blocks) % 2 and len(blocks) > 1:
        blocks.append(np.full_like(blocks[0], 255))
    rows = [np.concatenate(blocks[i : i + 2], 1) for i in range(0, len(blocks), 2)]
    return np.concatenate([*rows, _legend(rows[0].shape[1])], 0)


def _block(panel: Panel, fps: float, time_stride: int) -> Pixels:
    """One clip: its titles, its strips one below the other, the numbers of its frames."""
    shown = evenly_spaced(len(panel.frames), COLUMNS)
    size = _cell_size(*panel.frames.shape[1:3])
    strips = []
    for name, images, interpolation in _strips(panel, fps, time_stride):
        strips.append(_strip(name, images[shown], size, interpolation))
    width = strips[0].shape[1]
    head = _canvas(width, 46, [Text(panel.title, MARGIN, 4, 16), Text(panel.subtitle, MARGIN, 26, ink=GREY)])
    return np.concatenate([head, *strips, _frame_numbers(shown, width, size[0] + GAP)], 0)


def _frame_numbers(frames: np.ndarray, width: int, step: int) -> Pixels:
    numbers = [Text(f"frame {f}", MARGIN + i * step, 1, ink=GREY) for i, f in enumerate(frames)]
    return _canvas(width, 26, numbers)


def _strips(panel: Panel, fps: float, time_stride: int) -> Iterator[tuple[str, np.ndarray, int]]:
    """Yield name, images [F,h,w,3] and OpenCV's interpolation of each strip."""
    top = float(np.percentile(np.hypot(panel.flow[:, 0], panel.flow[:, 1]), 99.5))
    top = max(top, 0.5)  # pixels a frame: below, jitter would be painted as motion
    yield "frames", panel.frames, cv2.INTER_CUBIC
    yield f"optical flow\nup to {top * fps:.0f} px/s", colour_wheel(panel.flow, top), cv2.INTER_NEAREST
    yield "without\nthe camera", colour_wheel(panel.residual, top), cv2.INTER_NEAREST
    if panel.mask is not None:
        yield "motion mask", heat_overlay(panel.frames, panel.mask, time_stride), cv2.INTER_CUBIC


def _cell_size(height: int, width: int) -> tuple[int, int]:
    """(width, height) on the sheet: small frames by a whole factor, large ones shrunk."""
    short = min(height, width)
    scale = -(-CELL // short) if short < CELL else CELL / short
    return round(width * scale), round(height * scale)


def _strip(name: str, images: np.ndarray, size: tuple[int, int], interpolation: int) -> Pixels:
    gap = np.full((size[1], GAP, 3), 255, np.uint8)
    if images.shape[2] > size[0]:
        interpolation = cv2.INTER_AREA
    cells = [_canvas(MARGIN, size[1], [Text(name, 4, 4)])]
    for image in images:
        cells += [cv2.resize(image, size, interpolation=interpolation), gap]
    strip = np.concatenate([*cells, gap, gap, gap], 1)
    return np.concatenate([strip, np.full((GAP, strip.shape[1], 3), 255, np.uint8)], 0)


def _legend(width: int) -> Pixels:
    """The colour wheel and the heat scale, with words."""
    x = MARGIN + WHEEL + 12
    about_flow = "optical flow: the colour is the direction, seen from the centre; white stands still"
    about_mask = "motion mask: weight from 0 to 1; where it is 0 the frame stays grey"
    image = _canvas(width, WHEEL + 16, [Text(about_flow, x, 8), Text(about_mask, x + 170, 42)])
    image[4 : 4 + WHEEL, MARGIN : MARGIN + WHEEL] = _wheel(WHEEL)
    image[42:58, x : x + 160] = _heat(np.linspace(0, 1, 160)[None].repeat(16, 0))
    return image


def _wheel(side: int) -> Pixels:
    """Every direction, and every speed up to the top, in its colour; outside it is white."""
    down, right = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    wheel = colour_wheel(np.stack([right, down])[None], 1.0)[0]
    wheel[np.hypot(right, down) > 1] = 255
    return wheel


def _canvas(width: int, height: int, texts: Sequence[Text]) -> Pixels:
    """White image with texts; letters the font lacks (it has the Latin ones) become boxes."""
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    for text in texts:
        font = ImageFont.load_default(text.size)
        draw.multiline_text((text.x, text.y), _fitted(text.words, font, width - text.x), text.ink, font)
    return np.asarray(image).copy()


def _fitted(text: str, font: Any, width: int) -> str:
    """The text, cut with dots where a line is too wide."""
    if max(map(font.getlength, text.split("\n"))) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
