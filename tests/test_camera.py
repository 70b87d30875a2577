"""The camera is found in images whose motion is known, and an object is not taken for it."""

import cv2
import numpy as np
import pytest
import torch

from motive.maths.camera_motion import camera_label, subtracts
from motive.trackers.camera import Camera, View
from motive.trackers.interface import keep_on_grid, load_tracker
from motive.video.frames import to_grey
from toyworld import CAMERAS, draw_clip, sample_scene

DIS = {"tracker": "dis", "preset": "medium", "reference": "adjacent", "check": False}
SIZES = [(64, 64), (120, 208), (240, 416)]


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft blobs of several sizes, u8 [H,W,3]."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for blur in (2, 5, 12):
        noise = cv2.GaussianBlur(rng.normal(size=(height, width, 3)).astype(np.float32), (0, 0), blur)
        image += noise / noise.std()
    return np.clip(128 + 35 * image, 0, 255).astype(np.uint8)


def filmed(matrices: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """A large texture seen by a camera that moves by these matrices from frame to frame."""
    height, width = size
    margin = max(size)
    ground = texture(height + 2 * margin, width + 2 * margin)
    pose = np.array([[1.0, 0, -margin], [0, 1, -margin], [0, 0, 1]])
    frames = []
    for step in [np.eye(3), *matrices]:
        pose = step @ pose
        frames.append(cv2.warpPerspective(ground, pose, (width, height), flags=cv2.INTER_LINEAR))
    return np.stack(frames)


def about_centre(size: tuple[int, int], zoom: float, roll: float, bend: float = 0.0) -> np.ndarray:
    x = (size[1] - 1) / 2
    y = (size[0] - 1) / 2
    cosine = zoom * np.cos(roll)
    sine = zoom * np.sin(roll)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [bend / size[1], 0, 1]])
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]]) @ turn @ np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])


def views(frames: np.ndarray, adjacent: bool = True) -> tuple[list[View], np.ndarray]:
    """The camera's views and the optical flow on the grid."""
    stride = 4 if min(frames.shape[1:3]) < 100 else 8
    tracker = load_tracker(DIS | {"reference": "adjacent" if adjacent else "first"})
    flow = np.stack([keep_on_grid(step.flow, stride).numpy() for step in tracker(iter(frames))])
    camera = Camera(adjacent)
    return [camera.view(to_grey(frame), f) for frame, f in zip(frames, flow, strict=True)], flow


def label(cameras: list[View], frames: np.ndarray, fps: float = 12.0) -> str:
    return camera_label(*stacked(cameras), fps, (frames.shape[1], frames.shape[2]))


def stacked(cameras: list[View]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    matrices = torch.from_numpy(np.stack([view.matrix for view in cameras])).float()
    evidence = torch.tensor([(view.wins, view.losses, view.edges) for view in cameras])
    return matrices, evidence, torch.tensor([view.inliers for view in cameras])


def corner_error(estimate: np.ndarray, true: np.ndarray, size: tuple[int, int]) -> float:
    """How far the corners of the frame are off, in pixels."""
    corners = np.array([[0, 0, 1], [size[1], 0, 1], [0, size[0], 1], [size[1], size[0], 1.0]]).T
    ends = [matrix @ corners for matrix in (estimate, true)]
    return float(np.abs(ends[0][:2] / ends[0][2] - ends[1][:2] / ends[1][2]).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("what", ["shift", "far", "zoom", "roll", "all", "perspective"])
def test_a_camera_is_found_to_a_fraction_of_a_pixel(size: tuple[int, int], what: str) -> None:
    unit = min(size) / 64
    shift = np.eye(3)
    shift[:2, 2] = (1.5 * unit, -unit)
    far = np.eye(3)
    far[:2, 2] = (-5 * unit, 4 * unit)
    step = {
        "shift": shift,
        "far": far,
        "zoom": about_centre(size, 1.04, 0),
        "roll": about_centre(size, 1, 0.04),
        "all": shift @ about_centre(size, 0.97, -0.03),
        "perspective": shift @ about_centre(size, 1.02, 0.0, 0.03),
    }[what]
    cameras, _ = views(filmed([step] * 3, size))
    for view in cameras[1:]:
        assert corner_error(view.matrix, step, size) < (0.3 if what != "perspective" else 0.6) * unit
        assert view.wins > 0.8
        assert view.losses < 0.1
        assert np.abs(view.residual).mean() < 0.03 * unit


def test_a_still_image_has_a_still_camera_and_nothing_over() -> None:
    frames = np.repeat(texture(64, 64)[None], 4, 0)
    cameras, flow = views(frames)
    assert all(np.array_equal(view.matrix, np.eye(3)) and not view.residual.any() for view in cameras)
    assert not flow.any()


def test_light_that_changes_is_no_camera() -> None:
    base = texture(64, 64).astype(int)
    frames = np.stack([np.clip(base + 4 * k, 0, 255) for k in range(6)]).astype(np.uint8)
    cameras, _ = views(frames)
    assert label(cameras, frames) == "static"
    assert max(view.edges for view in cameras) == 0


@pytest.mark.parametrize("radius", [10, 20, 27])
def test_an_object_is_not_taken_for_the_camera(radius: int) -> None:
    """Up to two thirds of the frame: as long as its edges stand, the camera does."""
    ground, skin = texture(64, 64, 1), texture(64, 64, 2)
    y, x = np.mgrid[:64, :64]
    frames = []
    for k in range(6):
        disc = (np.hypot(x - 29 - k, y - 32) < radius)[..., None]
        frames.append(np.where(disc, np.roll(skin, k, 1), ground))
    frames = np.stack(frames).astype(np.uint8)
    cameras, flow = views(frames)
    assert label(cameras, frames) == "static"
    evidence = stacked(cameras)[1]
    assert not subtracts("static", evidence).any()
    assert flow.any()


@pytest.mark.parametrize("step", [(2.0, 0.0), (-1.0, 1.5)])
def test_beside_a_moving_camera_the_object_is_what_is_left(step: tuple[float, float]) -> None:
    shift = np.eye(3)
    shift[:2, 2] = step
    frames = filmed([shift] * 5, (64, 64))
    skin = texture(64, 64, 7)
    y, x = np.mgrid[:64, :64]
    for k, frame in enumerate(frames):
        disc = np.hypot(x - 32, y - (20 + 3 * k)) < 9
        frame[disc] = np.roll(skin, 3 * k, 0)[disc]
    cameras, flow = views(frames)
    assert label(cameras, frames) in ("pan", "tilt")
    for k, view in enumerate(cameras[1:], 1):
        assert corner_error(view.matrix, shift, (64, 64)) < 0.4
        speed = np.hypot(*view.residual)
        rows, columns = np.indices(speed.shape) * 4 + 1.5
        inside = np.hypot(columns - 32, rows - (20 + 3 * (k - 1))) < 7
        outside = np.hypot(columns - 32, rows - (20 + 3 * (k - 1))) > 20
        assert speed[inside].mean() > 1.5
        assert speed[outside].mean() < 0.05
    assert np.hypot(*flow[1:].transpose(1, 0, 2, 3)).mean() > 1


def test_a_cut_is_no_camera() -> None:
    frames = np.stack([texture(64, 64, seed) for seed in (1, 1, 2, 2, 3, 3)])
    cameras, _ = views(frames)
    assert label(cameras, frames) in ("static", "uncertain")


def test_from_frame_0_the_way_adds_up() -> None:
    shift = np.eye(3)
    shift[:2, 2] = (1.5, -1.0)
    cameras, _ = views(filmed([shift] * 4, (64, 64)), adjacent=False)
    for k, view in enumerate(cameras):
        assert corner_error(view.matrix, np.linalg.matrix_power(shift, k), (64, 64)) < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("kind", CAMERAS)
def test_the_rendered_worlds_cameras_are_named(kind: str) -> None:
    names = {"camera_pan": ("pan", "tilt"), "camera_zoom": ("zoom",), "camera_shake": ("shake",)}[kind]
    right = 0
    for seed in range(6):
        frames = draw_clip(sample_scene(np.random.default_rng(seed), kind), 13, 10.0).frames
        right += label(views(frames)[0], frames, 10.0) in names
    assert right >= 5


def test_the_same_frames_give_the_same_numbers() -> None:
    frames = filmed([about_centre((64, 64), 1.03, 0.02)] * 3, (64, 64))
    one, other = views(frames)[0], views(frames)[0]
    assert all(np.array_equal(a.matrix, b.matrix) for a, b in zip(one, other, strict=True))
    assert all(np.array_equal(a.residual, b.residual) for a, b in zip(one, other, strict=True))
