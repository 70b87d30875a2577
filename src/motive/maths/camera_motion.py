"""What the camera did in a clip, and whether anything else moved: from the evidence of its frames."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EDGES = 0.08  # of two opposite edges of the frame must move with a camera, on average over the clip
CERTAIN = 2.5  # times as much must speak for a moving camera as against it
EXPLAINED = 0.5  # of the frame, or the model is doubtful
SLOW = 0.005  # short sides per second: slower than this a camera stands
STEADY = 0.5  # of the way of a second leads somewhere, or the camera shakes
APART = 0.38  # short sides between the centre and the mean place of a square frame
OBJECT = 0.03  # of the frame must move on average, or it is what the camera's model leaves over
OBJECT_SHARE = 0.07  # ... and this share of all that moved

Label = Literal["static", "pan", "tilt", "zoom", "roll", "shake", "uncertain"]
Kind = Literal["still", "object", "camera", "both"]
MOVES: tuple[Label, ...] = ("pan", "tilt", "zoom", "roll")  # as in `parts`
LABELS = ("static", "pan", "tilt", "zoom", "roll", "shake", "uncertain")
KINDS = ("still", "object", "camera", "both")


def camera_label(
    matrices: Float[Tensor, "F 3 3"],
    evidence: Float[Tensor, "F 3"],
    inliers: Float[Tensor, "F"],
    fps: float,
    size: tuple[int, int],
) -> Label:
    """What the camera does, by the kind of its motion that moves the frame most.

    `matrices` take pixels of frame f-1 to frame f, `evidence` are wins, losses and edges of each frame (View
    of trackers/camera.py), frame 0 not counted. `uncertain`: something moves the whole frame, but no model
    explains it.
    """
    wins, losses, edges = evidence[1:].mean(0).tolist()
    if edges < EDGES:
        return "static"
    if wins < CERTAIN * losses or inliers[1:].mean() < EXPLAINED:
        return "uncertain"
    motion = parts(matrices[1:], size)
    if motion.norm(dim=1).mean() * fps < SLOW * min(size):
        return "static"
    if steadiness(motion, max(2, round(fps))) < STEADY:
        return "shake"
    return MOVES[int(motion.square().sum(0).argmax())]


def between(matrices: Float[Tensor, "F 3 3"]) -> Float[Tensor, "F 3 3"]:
    """From each frame to the next, where `matrices` lead from frame 0 to each."""
    steps = matrices[1:].double() @ matrices[:-1].double().inverse()
    return torch.cat([matrices[:1], (steps / steps[:, 2:, 2:]).to(matrices.dtype)])


def parts(matrices: Float[Tensor, "N 3 3"], size: tuple[int, int]) -> Float[Tensor, "N 4"]:
    """Shift right and down, zoom and roll about the centre, each in pixels that a mean place moves."""
    height, width = size
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2, 1.0], dtype=matrices.dtype)
    moved, jacobian = _linearised(matrices, centre)
    zoom = jacobian.det().clamp_min(1e-6).log() / 2  # the determinant is that of areas
    roll = torch.atan2(jacobian[:, 1, 0] - jacobian[:, 0, 1], jacobian[:, 0, 0] + jacobian[:, 1, 1])
    return torch.cat([moved - centre[:2], APART * min(size) * torch.stack([zoom, roll], 1)], 1)


def _linearised(
    matrices: Float[Tensor, "N 3 3"], point: Float[Tensor, "3"]
) -> tuple[Float[Tensor, "N 2"], Float[Tensor, "N 2 2"]]:
    """Where homographies take a point (x, y, 1), and their Jacobians there."""
    projected = matrices @ point
    depth = projected[:, 2:]
    place = projected[:, :2] / depth
    # d place = (A - place c^T) / depth, A the upper left 2 x 2 of a matrix and c^T its last row.
    jacobian = (matrices[:, :2, :2] - place[:, :, None] * matrices[:, 2:, :2]) / depth[:, :, None]
    return place, jacobian


def steadiness(motion: Float[Tensor, "N 4"], window: int) -> float:
    """How far it gets in a window, against the way it goes: 1 is straight on, 0 to and fro."""
    ways = motion.unfold(0, min(window, len(motion)), 1)  # [N-window+1, 4, window]
    length = ways.norm(dim=1).sum(1)
    return float(ways.sum(2).norm(dim=1).sum() / length.sum().clamp_min(1e-6))


def subtracts(label: Label, evidence: Float[Tensor, "F 3"]) -> Bool[Tensor, "F"]:
    """The frames whose camera motion is to be subtracted: where the label is certain and the frame's model
    too."""
    if label in ("static", "uncertain"):
        return torch.zeros(len(evidence), dtype=torch.bool)
    wins, losses, _ = evidence.unbind(1)
    return wins > losses


def motion_kind(
    flow: Float[Tensor, "F 2 h w"], residual: Float[Tensor, "F 2 h w"], label: Label, least: float
) -> Kind:
    """Who moves. `least`: pixels a frame below which nothing does.

    What is uncertain is `both`. Beside a moving camera an object must move enough of the frame, since the
    camera's model always leaves something over; frames whose camera was not subtracted have no say in it.
    """
    moves = _moves(flow, least)
    if not moves.any():
        return "still"
    if label == "static":
        return "object"
    if label == "uncertain":
        return "both"
    subtracted = (flow != residual)[1:].flatten(1).any(1)
    all_share = moves[subtracted].float().mean().item()
    own_share = _moves(residual, least)[subtracted].float().mean().item()
    return "both" if own_share >= max(OBJECT, OBJECT_SHARE * all_share) else "camera"


def _moves(flow: Float[Tensor, "F 2 h w"], least: float) -> Bool[Tensor, "F-1 h w"]:
    return flow[1:].norm(dim=1) >= max(least, 1e-6)
