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
LABELS = ("static", "pan", "tilt", "zoom", "roll", "shake", "uncertain")
KINDS = ("still", "object", "camera", "both")


def camera_label(
    matrices: Float[Tensor, "F 3 3"],
    evidence: Float[Tensor, "F 3"],
    inliers: Float[Tensor, "F"],
    fps: float,
    size: tuple[int, int],
) -> Label:
    """What the camera does, by the part of its motion that moves the picture most.

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
    names: tuple[Label, ...] = ("pan", "tilt", "zoom", "roll")
    return names[int(motion.square().sum(0).argmax())]


def between(matrices: Float[Tensor, "F 3 3"]) -> Float[Tensor, "F 3 3"]:
    """From each frame to the next, where `matrices` lead from frame 0 to each."""
    steps = matrices[1:].double() @ matrices[:-1].double().inverse()
    return torch.cat([matrices[:1], (steps / steps[:, 2:, 2:]).to(matrices.dtype)])


def parts(matrices: Float[Tensor, "N 3 3"], size: tuple[int, int]) -> Float[Tensor, "N 4"]:
    """Shift right and down, zoom and roll about the centre, each in pixels that a mean place moves."""
    height, width = size
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2, 1.0], dtype=matrices.dtype)
    moved = matrices @ centre
    depth, moved = moved[:, 2:], moved[:, :2] / moved[:, 2:]
    shift = moved - centre[:2]
    # The Jacobian of the homography at the centre.
    linear = (matrices[:, :2, :2] - moved[:, :, None] * matrices[:, 2:, :2]) / depth[:, :, None]
    zoom = linear.det().clamp_min(1e-6).log() / 2
    roll = torch.atan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1])
    return torch.cat([shift, APART * min(size) * torch.stack([zoom, roll], 1)], 1)


def steadiness(motion: Float[Tensor, "N 4"], window: int) -> float:
    """How far it gets in a window, against the way it goes: 1 is straight on, 0 to and fro."""
    window = min(window, len(motion))
    ways = motion.unfold(0, window, 1)  # [N-window+1, 4, window]
    gone = ways.norm(dim=1).sum(1)
    return float(ways.sum(2).norm(dim=1).sum() / gone.sum().clamp_min(1e-6))


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
    raw, own = (vectors[1:].norm(dim=1) >= max(least, 1e-6) for vectors in (flow, residual))
    if not raw.any():
        return "still"
    if label == "static":
        return "object"
    if label == "uncertain":
        return "both"
    told = (flow != residual)[1:].flatten(1).any(1)
    raw, own = (moves[told].float().mean().item() for moves in (raw, own))
    return "both" if own >= max(OBJECT, OBJECT_SHARE * raw) else "camera"
