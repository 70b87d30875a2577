"""Images of motion, RGB: optical flow by colour wheel, masks as heat over the frames, sheets of both."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from motive.video.frames import evenly_spaced

Pixels = np.ndarray  # u8 [H,W,3]

CELL = 120  # pixels of a frame's shorter side on a sheet, or a little more
COLUMNS = 6  # frames shown of a clip
GAP = 4
MARGIN = 92  # for the names of the rows
WHITE, INK, GREY = (255, 255, 255), (20, 20, 20), (110, 110, 110)


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


def colour_wheel(flow: np.ndarray, top: float) -> np.ndarray:
    """Flow [F,2,h,w] as u8 [F,h,w,3]: the hue is the direction, white stands still, full colour is `top`."""
    dx, dy = flow[:, 0], flow[:, 1]
    strength = np.clip(np.hypot(dx, dy) / max(top, 1e-6), 0, 1)
    hue = np.degrees(np.arctan2(dy, dx)) % 360
    hsv = np.stack([hue, strength, np.ones_like(hue)], -1).astype(np.float32)
    return np.stack(
        [(cv2.cvtColor(frame, cv2.COLOR_HSV2RGB) * 255).round().astype(np.uint8) for frame in hsv]
    )


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
        return _canvas(400, 40, [("no clips", 8, 8, 16, INK)])
    blocks = [_block(panel, fps, time_stride) for panel in panels]
    if len(blocks) % 2 and len(blocks) > 1:
        blocks.append(np.full_like(blocks[0], 255))
    rows = [np.concatenate(blocks[i : i + 2], 1) for i in range(0, len(blocks), 2)]
    return np.concatenate([*rows, _legend(rows[0].shape[1])], 0)


def _block(panel: Panel, fps: float, time_stride: int) -> Pixels:
    num_frames = len(panel.frames)
    shown = evenly_spaced(num_frames, COLUMNS)
    top = float(np.percentile(np.hypot(panel.flow[:, 0], panel.flow[:, 1]), 99.5))
    size = _cell_size(*panel.frames.shape[1:3])
    top = max(top, 0.5)  # pixels a frame: below, jitter would be painted as motion
    strips = {
        "frames": (panel.frames[shown], cv2.INTER_CUBIC),
        "optical flow\n" + f"up to {top * fps:.0f} px/s": (
            colour_wheel(panel.flow, top)[shown],
            cv2.INTER_NEAREST,
        ),
        "without\nthe camera": (colour_wheel(panel.residual, top)[shown], cv2.INTER_NEAREST),
    }
    if panel.mask is not None:
        heat = heat_overlay(panel.frames, panel.mask, time_stride)[shown]
        strips["motion mask"] = (heat, cv2.INTER_CUBIC)
    lines = [_strip(name, images, size, kind) for name, (images, kind) in strips.items()]
    width = lines[0].shape[1]
    names = [f"frame {f}" for f in shown]
    head = _canvas(width, 46, [(panel.title, MARGIN, 4, 16, INK), (panel.subtitle, MARGIN, 26, 12, GREY)])
    foot = _canvas(
        width, 26, [(name, MARGIN + i * (size[0] + GAP), 1, 12, GREY) for i, name in enumerate(names)]
    )
    return np.concatenate([head, *lines, foot], 0)


def _cell_size(height: int, width: int) -> tuple[int, int]:
    """(width, height) on the sheet: small frames by a whole factor, large ones shrunk."""
    short = min(height, width)
    scale = -(-CELL // short) if short < CELL else CELL / short
    return round(width * scale), round(height * scale)


def _strip(name: str, images: np.ndarray, size: tuple[int, int], interpolation: int) -> Pixels:
    gap = np.full((size[1], GAP, 3), 255, np.uint8)
    if images.shape[2] > size[0]:
        interpolation = cv2.INTER_AREA
    cells = [cell for image in images for cell in (cv2.resize(image, size, interpolation=interpolation), gap)]
    strip = np.concatenate([_canvas(MARGIN, size[1], [(name, 4, 4, 12, INK)]), *cells, gap, gap, gap], 1)
    return np.concatenate([strip, np.full((GAP, strip.shape[1], 3), 255, np.uint8)], 0)


def _legend(width: int) -> Pixels:
    """The colour wheel and the heat scale, with words."""
    side, x = 72, MARGIN + 84
    down, right = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    wheel = colour_wheel(np.stack([right, down])[None], 1.0)[0]
    wheel[np.hypot(right, down) > 1] = 255
    about_flow = (
        "optical flow: the colour is the direction, seen from the centre; white stands still",
        x,
        8,
        12,
        INK,
    )
    about_mask = ("motion mask: weight from 0 to 1; where it is 0 the frame stays grey", x + 170, 42, 12, INK)
    image = _canvas(width, side + 16, [about_flow, about_mask])
    image[4 : 4 + side, MARGIN : MARGIN + side] = wheel
    image[42:58, x : x + 160] = _heat(np.linspace(0, 1, 160)[None].repeat(16, 0))
    return image


Words = tuple[str, int, int, int, tuple[int, int, int]]  # text, x, y, size, ink


def _canvas(width: int, height: int, texts: Sequence[Words]) -> Pixels:
    """White image with texts; letters the font lacks (it has the Latin ones) become boxes."""
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    for text, x, y, size, ink in texts:
        font = ImageFont.load_default(size)
        draw.multiline_text((x, y), _fitted(text, font, width - x), ink, font)
    return np.asarray(image).copy()


def _fitted(text: str, font: Any, width: int) -> str:
    """The text, cut with dots where a line is too wide."""
    if max(map(font.getlength, text.split("\n"))) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
