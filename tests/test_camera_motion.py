"""Laws of camera labels, steadiness and who moves: from matrices alone."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from motive.maths.camera_motion import (
    LABELS,
    Label,
    between,
    camera_label,
    motion_kind,
    parts,
    steadiness,
    subtracts,
)

SIZE = (64, 96)
FPS = 16.0
CENTRE = ((SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2)


def view(right: float = 0, down: float = 0, zoom: float = 1, roll: float = 0) -> Tensor:
    """A camera about the centre of the frame, then shifted."""
    x, y = CENTRE
    cosine = zoom * math.cos(roll)
    sine = zoom * math.sin(roll)
    linear = torch.tensor([[cosine, -sine], [sine, cosine]])
    shift = torch.tensor([x + right, y + down]) - linear @ torch.tensor([x, y])
    return torch.cat([torch.cat([linear, shift[:, None]], 1), torch.tensor([[0.0, 0.0, 1.0]])])


def clip(*steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices, evidence that says so, inliers."""
    matrices = torch.stack([torch.eye(3), *steps])
    evidence = torch.tensor([[0.0, 0.0, 0.0]] + [[0.8, 0.0, 0.8]] * len(steps))
    return matrices, evidence, torch.ones(len(matrices))


@pytest.mark.parametrize(
    ("step", "label"),
    [
        (view(right=1.5), "pan"),
        (view(right=-1.5), "pan"),
        (view(down=1.5), "tilt"),
        (view(zoom=1.05), "zoom"),
        (view(zoom=0.95), "zoom"),
        (view(roll=0.05), "roll"),
        (view(right=1.5, down=0.5, zoom=1.01, roll=0.005), "pan"),
        (view(), "static"),
        (view(right=0.01), "static"),
    ],
)
def test_the_label_is_the_part_that_moves_most(step: Tensor, label: str) -> None:
    assert camera_label(*clip(*[step] * 12), FPS, SIZE) == label


def test_to_and_fro_is_shaking_and_a_slow_return_is_not() -> None:
    rng = np.random.default_rng(0)
    shaken = [view(*rng.normal(0, 2, 2)) for _ in range(32)]
    assert camera_label(*clip(*shaken), FPS, SIZE) == "shake"
    there_and_back = [view(right=2.0)] * 16 + [view(right=-2.0)] * 16
    assert camera_label(*clip(*there_and_back), FPS, SIZE) == "pan"


def test_without_evidence_at_the_edges_the_camera_stands() -> None:
    matrices, evidence, inliers = clip(*[view(right=3.0)] * 12)
    evidence[1:, 2] = 0.0
    assert camera_label(matrices, evidence, inliers, FPS, SIZE) == "static"


@pytest.mark.parametrize(("losses", "inliers"), [(0.4, 1.0), (0.0, 0.3)])
def test_a_doubtful_model_is_uncertain_and_never_subtracted(losses: float, inliers: float) -> None:
    matrices, evidence, explained = clip(*[view(right=3.0)] * 12)
    evidence[1:, 1] = losses
    label = camera_label(matrices, evidence, explained * inliers, FPS, SIZE)
    assert label == "uncertain"
    assert not subtracts(label, evidence).any()


def test_only_frames_whose_model_wins_are_subtracted() -> None:
    _, evidence, _ = clip(*[view(right=3.0)] * 4)
    evidence[2] = torch.tensor([0.1, 0.3, 0.0])
    evidence[3] = 0.0
    assert subtracts("pan", evidence).tolist() == [False, True, False, False, True]
    assert not subtracts("static", evidence).any()


def test_parts_are_pixels_of_shift_zoom_and_roll() -> None:
    shift, zoom, roll = parts(torch.stack([view(right=2, down=-3), view(zoom=1.1), view(roll=0.1)]), SIZE)
    torch.testing.assert_close(shift, torch.tensor([2.0, -3.0, 0.0, 0.0]), atol=1e-4, rtol=0)
    assert zoom.abs().argmax() == 2
    assert zoom[2] == pytest.approx(0.38 * 64 * math.log(1.1), rel=1e-3)
    assert roll[3] == pytest.approx(0.38 * 64 * 0.1, rel=1e-3)


def test_perspective_does_not_spoil_the_parts() -> None:
    """Zoom and roll are those at the centre, whatever the horizon does."""
    tilted = view(zoom=1.1, roll=0.1).double()
    x, y = CENTRE
    horizon = torch.eye(3, dtype=torch.float64)
    horizon[2, 0] = 1e-4
    horizon[2, 2] = 1 - 1e-4 * x
    bent = (
        torch.tensor([[1, 0, x], [0, 1, y], [0, 0, 1.0]], dtype=torch.float64)
        @ torch.tensor([[1, 0, 0], [0, 1, 0], [1e-4, 0, 1]], dtype=torch.float64)
        @ torch.tensor([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]], dtype=torch.float64)
    )
    plain, with_horizon = parts(torch.stack([tilted, tilted @ bent]), SIZE)
    torch.testing.assert_close(plain, with_horizon, atol=1e-3, rtol=0)


def test_steadiness_is_one_straight_on_and_small_to_and_fro() -> None:
    straight = torch.tensor([[1.0, 2.0, 0.0, 0.0]]).repeat(20, 1)
    assert steadiness(straight, 16) == pytest.approx(1)
    assert steadiness(straight * torch.tensor([1.0, -1.0]).repeat(10)[:, None], 16) == pytest.approx(0)
    assert steadiness(straight[:3], 16) == pytest.approx(1)


def test_steps_between_frames_of_matrices_from_frame_0() -> None:
    steps = [view(right=2), view(zoom=1.1), view(roll=0.2), view(down=-4)]
    from_first = [torch.eye(3)]
    for step in steps:
        from_first.append(step @ from_first[-1])
    torch.testing.assert_close(between(torch.stack(from_first))[1:], torch.stack(steps), atol=1e-3, rtol=0)


def moving(cells: int, speed: float = 2.0) -> Tensor:
    """Flow of 5 frames of 20x20 cells of which some move."""
    flow = torch.zeros(5, 2, 400)
    flow[1:, 0, :cells] = speed
    return flow.reshape(5, 2, 20, 20)


@pytest.mark.parametrize(
    ("raw", "own", "label", "kind"),
    [
        (0, 0, "static", "still"),
        (0, 0, "uncertain", "still"),
        (4, 4, "static", "object"),
        (400, 0, "pan", "camera"),
        (400, 4, "pan", "camera"),  # a hundredth of the frame is what the model leaves over
        (400, 100, "zoom", "both"),
        (400, 400, "uncertain", "both"),
    ],
)
def test_who_moves(raw: int, own: int, label: Label, kind: str) -> None:
    assert label in LABELS
    assert motion_kind(moving(raw), moving(own), label, 0.5) == kind


def test_what_stays_below_the_floor_does_not_move() -> None:
    assert motion_kind(moving(400, 0.4), moving(400, 0.4), "static", 0.5) == "still"
