"""From a scene to pixels: sprites and a background under affine maps, with true mask, camera and flow."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from motive.video.frames import evenly_spaced
from toyworld.looks import COLOURS, PALETTES, Looks
from toyworld.motions import Array, Point
from toyworld.scenes import Scene
from toyworld.shapes import OUTLINES, TEXTURE_FIELDS, background_field

WORLD = 64  # side of the frame in world pixels
OVERSAMPLING = 4
STRING_COLOUR = (70, 60, 60)
OPAQUE = 128  # alpha from which a pixel belongs to the object


class Clip(NamedTuple):
    """Frames u8 [F,H,W,3], mask bool [F,H,W], camera f32 [F,2,3] world to frame px, flow f16 [F,2,H,W] px.

    `flow[f]` carries the point seen at a pixel of frame f-1 to its place in frame f; frame 0 has none.
    """

    frames: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    camera: NDArray[np.float32]
    flow: NDArray[np.float16]


class Sprite(NamedTuple):
    """A piece of the object: premultiplied RGBA u8 [h,w,4] and the map [3,3] from these to object pixels."""

    pixels: NDArray[np.uint8]
    to_object: Array


def square_map(affine: Array) -> Array:
    """Affine maps [...,2,3] as matrices [...,3,3]."""
    bottom = np.broadcast_to([0.0, 0.0, 1.0], (*affine.shape[:-2], 1, 3))
    return np.concatenate([affine, bottom], -2)


def scaling(factor: float, x: float, y: float) -> Array:
    """Map [3,3] that scales by a factor, then shifts."""
    return np.array([[factor, 0, x], [0, factor, y], [0, 0, 1]], np.float64)


def frame_map(size: tuple[int, int]) -> Array:
    """Map [3,3] from world pixels to pixel indices of a frame (height, width), the world in its middle."""
    height, width = size
    scale = min(size) / WORLD
    return scaling(scale, (width - scale * WORLD) / 2 - 0.5, (height - scale * WORLD) / 2 - 0.5)


def mix(first: tuple, second: tuple, share: Array) -> NDArray[np.float32]:
    """Colours f32 [H,W,3] from the first (share 0) to the second (share 1)."""
    return (np.array(first) + share[..., None] * (np.array(second, float) - first)).astype(np.float32)


def sprites(looks: Looks, radius: float, sites: tuple, density: float) -> list[Sprite]:
    """The object's pieces nearest each site [P] (object px), at `density` sprite pixels a world pixel."""
    reach = 1.35 * radius
    side = int(np.ceil(2 * reach * density))
    ticks = ((np.arange(side) + 0.5) / density - reach) / radius
    x, y = np.meshgrid(ticks, ticks)
    alpha = silhouette(looks.shape, radius, reach, density, side)
    colour = mix(COLOURS[looks.colour], looks.accent, accent_share(looks, x, y))
    nearest = nearest_site(x * radius, y * radius, sites)
    return [piece(colour, np.where(nearest == k, alpha, 0), reach, density) for k in range(len(sites))]


def nearest_site(x: NDArray, y: NDArray, sites: tuple) -> NDArray[np.intp]:
    """Which of the sites [P] is nearest to each of the points [H,W]: a piece has the pixels of its site."""
    return np.argmin([np.hypot(x - site[0], y - site[1]) for site in sites], 0)


def silhouette(shape: str, radius: float, reach: float, density: float, side: int) -> NDArray[np.uint8]:
    """Alpha u8 [side,side] of a shape: its outline filled, its hole (a second outline) left out."""
    alpha = np.zeros((side, side), np.uint8)
    for value, outline in zip((255, 0), OUTLINES[shape], strict=False):
        corners = (outline * radius + reach) * density - 0.5
        cv2.fillPoly(alpha, [np.round(corners * 16).astype(np.int32)], value, cv2.LINE_AA, 4)
    return alpha


def accent_share(looks: Looks, x: NDArray, y: NDArray) -> Array:
    """Share [H,W] of the accent colour at object coordinates in radii, the texture turned by its angle."""
    cosine = np.cos(looks.texture_angle)
    sine = np.sin(looks.texture_angle)
    texture = TEXTURE_FIELDS[looks.texture]
    return texture(x * cosine + y * sine, y * cosine - x * sine).astype(np.float64)


def piece(colour: NDArray[np.float32], alpha: NDArray, reach: float, density: float) -> Sprite:
    """One sprite cut to the bounds of its alpha [H,W], with a clear border of a pixel."""
    # The bounds of the alpha padded by 1: the same corner in the image padded by 2 leaves the border.
    left, top, width, height = cv2.boundingRect(np.pad(alpha, 1).astype(np.uint8))
    image = np.concatenate([colour * (alpha[..., None] / 255), alpha[..., None]], -1)
    padded = np.pad(np.rint(image).astype(np.uint8), ((2, 2), (2, 2), (0, 0)))
    window = np.ascontiguousarray(padded[top : top + height + 2, left : left + width + 2])

    x = (left - 2 + 0.5) / density - reach
    y = (top - 2 + 0.5) / density - reach
    return Sprite(window, scaling(1 / density, x, y))


def stamp(frame: NDArray, owner: NDArray, sprite: Sprite, to_frame: Array, label: int) -> None:
    """Draw a sprite into a frame f32 [H,W,3] by a map [3,3] from object to frame; own its pixels u8 [H,W]."""
    carry = to_frame @ sprite.to_object
    box = bounds(carry, sprite.pixels.shape, owner.shape)
    if box is None:
        return
    top, bottom, left, right = box

    # Drawn in more pixels and averaged: the edges are smooth.
    oversampled = scaling(OVERSAMPLING, *(OVERSAMPLING * (0.5 - np.array([left, top])) - 0.5))
    large = cv2.warpAffine(
        sprite.pixels,
        (oversampled @ carry)[:2],
        (OVERSAMPLING * (right - left), OVERSAMPLING * (bottom - top)),
    )
    patch = cv2.resize(large, (right - left, bottom - top), interpolation=cv2.INTER_AREA)

    # Laid over what is there; the colours are premultiplied.
    alpha = patch[..., 3:]
    region = frame[top:bottom, left:right]
    region *= 1 - alpha / np.float32(255)
    region += patch[..., :3]
    owner[top:bottom, left:right][alpha[..., 0] >= OPAQUE] = label


def bounds(
    carry: Array, sprite_shape: tuple[int, ...], frame_shape: tuple[int, ...]
) -> tuple[int, int, int, int] | None:
    """Rows and columns (top, bottom, left, right) of the frame that a carried sprite covers; None outside."""
    rows, columns = sprite_shape[:2]
    corners = carry[:2] @ np.array([[0, columns, 0, columns], [0, 0, rows, rows], [1, 1, 1, 1]])
    left, top = np.maximum(np.floor(corners.min(1)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(corners.max(1)).astype(int) + 2, frame_shape[::-1])
    if right <= left or bottom <= top:
        return None
    return int(top), int(bottom), int(left), int(right)


def backdrop(looks: Looks, size: tuple[int, int]) -> tuple[NDArray[np.float32], Array]:
    """Canvas f32 [2H,2W,3] with half a frame of margin, and the map [3,3] from its pixels to the world's."""
    height, width = size
    to_world = np.linalg.inv(frame_map(size)) @ scaling(1, -(width // 2), -(height // 2))
    x = (to_world[0, 0] * np.arange(2 * width) + to_world[0, 2]) / WORLD
    y = (to_world[1, 1] * np.arange(2 * height) + to_world[1, 2]) / WORLD
    share = background_field(looks.background, x[None], y[:, None], np.random.default_rng(looks.grain))
    return mix(*PALETTES[looks.palette], share), to_world


def draw_string(frame: NDArray, pivot: Point, knot: Array, to_frame: Array) -> None:
    """Draw a pendulum's string into a frame [H,W,3] from its pivot to its knot [2] (world px)."""
    ends = to_frame[:2, :2] @ np.stack([pivot, knot], -1) + to_frame[:2, 2:]
    start, end = (tuple(int(v) for v in np.round(point * 16)) for point in ends.T)
    thickness = max(1, round(min(frame.shape[:2]) / WORLD))
    cv2.line(frame, start, end, STRING_COLOUR, thickness, cv2.LINE_AA, 4)


def draw_frames(scene: Scene, maps: Array, to_frames: Array, poses: Array) -> tuple[NDArray, NDArray]:
    """Frames u8 [F,H,W,3] and owners u8 [F,H,W] (0: background, k: piece k) under maps [F,P,3,3], [F,3,3]."""
    pieces = sprites(scene.looks, scene.radius, scene.sites, OVERSAMPLING * min(scene.size) / WORLD)
    canvas, to_world = backdrop(scene.looks, scene.size)
    frames = np.empty((len(maps), *scene.size, 3), np.uint8)
    owners = np.zeros((len(maps), *scene.size), np.uint8)
    behind: NDArray = canvas
    for index, to_frame in enumerate(to_frames):
        camera_moved = index == 0 or not np.array_equal(to_frame, to_frames[index - 1])
        if camera_moved:
            behind = cv2.warpAffine(
                canvas,
                (to_frame @ to_world)[:2],
                scene.size[::-1],
                borderMode=cv2.BORDER_REPLICATE,
            )
        elif np.array_equal(maps[index], maps[index - 1]):
            # Nothing has moved since the frame before.
            frames[index] = frames[index - 1]
            owners[index] = owners[index - 1]
            continue
        frame = drawn_string(behind, scene, poses[index, 0], to_frame)
        for label, sprite in enumerate(pieces, 1):
            stamp(frame, owners[index], sprite, maps[index, label - 1], label)
        frames[index] = np.clip(np.rint(frame), 0, 255)
    return frames, owners


def drawn_string(behind: NDArray, scene: Scene, pose: Array, to_frame: Array) -> NDArray[np.float32]:
    """A fresh frame f32 [H,W,3] with the background and, for a pendulum, its string."""
    if scene.pivot is None:
        return behind.copy()
    frame = np.clip(np.rint(behind), 0, 255).astype(np.uint8)  # OpenCV smooths lines in 8 bits only
    # Tied above the middle, where a ring has its hole.
    draw_string(frame, scene.pivot, pose @ (0, -scene.radius / 2, 1), to_frame)
    return frame.astype(np.float32)


def true_flow(owners: NDArray, maps: Array) -> NDArray[np.float16]:
    """Flow f16 [F,2,H,W] of owners [F,H,W] whose surfaces are carried by maps [F,1+P,3,3] to the frame."""
    changes = (maps[1:] @ np.linalg.inv(maps[:-1]) - np.eye(3))[..., :2, :]
    flow = np.zeros((len(owners), 2, *owners.shape[1:]), np.float16)
    for index, change in enumerate(changes):
        flow[index + 1] = displacement(change[owners[index]])
    return flow


def displacement(change: Array) -> Array:
    """How far [2,H,W] px each pixel is carried by its own change of place [H,W,2,3]."""
    height, width = change.shape[:2]
    x = np.arange(width)
    y = np.arange(height)[:, None]
    rows = (change[..., 0, :], change[..., 1, :])
    return np.stack([row[..., 0] * x + row[..., 1] * y + row[..., 2] for row in rows])


def draw_clip(scene: Scene, num_frames: int, fps: float) -> Clip:
    """The clip of a scene from its beginning, `num_frames` frames at `fps` a second."""
    times = np.arange(num_frames) / fps
    poses = scene.law(times)
    to_frame = frame_map(scene.size)
    to_frames = to_frame @ square_map(scene.camera(times))
    maps = to_frames[:, None] @ square_map(poses)
    frames, owners = draw_frames(scene, maps, to_frames, poses)
    camera = to_frames @ np.linalg.inv(to_frame)
    flow = true_flow(owners, np.concatenate([to_frames[:, None], maps], 1))
    return Clip(frames, owners > 0, camera[:, :2].astype(np.float32), flow)


def contact_sheet(clips: list[NDArray[np.uint8]], labels: list[str], columns: int = 9) -> NDArray[np.uint8]:
    """Sheet u8 [H,W,3]: a row a clip, `columns` frames [F,h,w,3] spread over each, its label at the left."""
    rows = []
    for frames, label in zip(clips, labels, strict=True):
        shown = frames[evenly_spaced(len(frames), columns, repeat=True)]
        bordered = [np.pad(frame, ((1, 1), (1, 1), (0, 0)), constant_values=255) for frame in shown]
        rows.append(np.concatenate([text_margin(label, len(bordered[0])), *bordered], 1))
    return np.concatenate(rows)


def text_margin(label: str, height: int) -> NDArray[np.uint8]:
    """White margin u8 [height,150,3] with up to three lines of 22 letters."""
    margin = np.full((height, 150, 3), 255, np.uint8)
    for line in range(3):
        text = label[22 * line : 22 * (line + 1)]
        cv2.putText(margin, text, (3, 16 + 16 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0))
    return margin
