"""One clip's work from plain arguments: tensors in, tensors out, no disk and no params.yaml.

    frames -> optical_flow -> motion_mask --\\
    frames, caption -> encode_clip ----------> sketch_clip

Stages, `motive query`, benchmarks and notebooks all call these four. Each returns what its stage keeps of a
clip, a dict of tensors on the CPU.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from motive.maths import motion_mask as masking
from motive.maths.camera_motion import KINDS, LABELS, between, camera_label, motion_kind, subtracts
from motive.maths.denoising import (
    motion_weighted_loss,
    noised,
    target_velocity,
    with_clean_first_frame,
    without_first_frame,
)
from motive.maths.gradients import sketch_gradient
from motive.maths.packing import Storage, pack
from motive.maths.plan import Plan
from motive.maths.projection import Projection
from motive.maths.segments import segment_masks
from motive.models.backbones import encode_first_frame, encode_image, encode_text, encode_video
from motive.models.first_frame import Kind
from motive.trackers.camera import Camera, View
from motive.trackers.interface import Tracker, keep_on_grid
from motive.video.frames import to_grey

Reference = Literal["adjacent", "first"]
# (model, noised latents [1,C,T,h,w], sigma [1], text [1,S,E]) -> predicted velocity [1,C,T,h,w]
Velocity = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


# ---- frames -> optical flow


def optical_flow(
    frames: Iterable[np.ndarray],
    tracker: Tracker,
    *,
    reference: Reference,
    stride: int,
    fps: float,
) -> dict[str, Tensor]:
    """Optical flow of a clip on a coarse grid, and what of it is not the camera's.

    `frames` are u8 [H,W,3] or grey [H,W]; they stream by. A vector starts in the frame before (`reference`
    adjacent) or in frame 0 (first), as `tracker` was loaded to do.

    `flow` and `residual` (without the camera's part) f16 [F,2,H/stride,W/stride] in full-size pixels,
    `confidence` u8 [F,H/stride,W/stride], `brightness` in [0,1]; of the camera `camera` [F,3,3] (pixels of
    the reference frame to pixels of this one), `inliers` [F] and `label`, an index of LABELS.

    Raises:
        ValueError: fewer than two frames, frames too small, or not a whole number of cells.
    """
    camera = Camera(adjacent=reference == "adjacent")
    steps = list(_steps(frames, tracker, camera, stride))
    flow = torch.stack([step.flow for step in steps])
    size = (flow.shape[2] * stride, flow.shape[3] * stride)
    return {
        "flow": flow,
        "confidence": torch.stack([step.confidence for step in steps]),
        "brightness": torch.tensor([step.brightness for step in steps]).mean() / 255,
        **_without_camera(flow, [step.view for step in steps], reference, fps, size),
    }


class _Step(NamedTuple):
    """What is kept of one frame: flow f16 [2,h,w], confidence u8 [h,w], the camera's view, mean grey."""

    flow: Tensor
    confidence: Tensor
    view: View
    brightness: float


def _steps(frames: Iterable[np.ndarray], tracker: Tracker, camera: Camera, stride: int) -> Iterator[_Step]:
    frames, frames_to_match = tee(frames)
    for frame, step in zip(frames, tracker(frames_to_match), strict=True):
        grey = to_grey(frame)
        coarse = keep_on_grid(step.flow, stride)
        yield _Step(
            flow=coarse.half(),
            confidence=(keep_on_grid(step.confidence, stride) * 255).round().to(torch.uint8),
            view=camera.view(grey, coarse.numpy()),
            brightness=float(grey[::4, ::4].mean()),
        )


def _without_camera(
    flow: Float[Tensor, "F 2 h w"], views: list[View], reference: Reference, fps: float, size: tuple[int, int]
) -> dict[str, Tensor]:
    """What the camera did in a clip, and the optical flow without it where that is certain."""
    matrices = torch.from_numpy(np.stack([view.matrix for view in views])).float()  # [F,3,3]
    inliers = torch.tensor([view.inliers for view in views])
    evidence = torch.tensor([(view.wins, view.losses, view.edges) for view in views])  # [F,3]
    steps = matrices if reference == "adjacent" else between(matrices)
    label = camera_label(steps, evidence, inliers, fps, size)

    own_motion = torch.from_numpy(np.stack([view.residual for view in views])).half()
    return {
        "residual": torch.where(subtracts(label, evidence)[:, None, None, None], own_motion, flow),
        "camera": matrices,
        "inliers": inliers,
        "label": torch.tensor(LABELS.index(label), dtype=torch.uint8),
    }


# ---- optical flow -> motion mask


def motion_mask(
    flow: dict[str, Tensor],
    *,
    grid: tuple[int, int],
    time_stride: int,
    fps: float,
    reference: Reference,
    enabled: bool,
    camera: Literal["keep", "remove"],
    floor: float,
    percentile: float,
    confidence: bool,
) -> dict[str, Tensor]:
    """The motion mask of a clip on the latent grid, and how the clip moves, from what `optical_flow` returns.

    `grid`: (height, width) of a latent frame; `time_stride`: frames that a latent frame spans. `camera`
    remove: what the camera explains has no weight. `floor`: pixels per second below which nothing moves.
    `percentile`: of what moves, from which on the weight is 1. `confidence`: weigh by the tracker's.
    `enabled` False: weight 1 everywhere. The paper: keep, 0, 100, False, True.

    `mask` f16 [T,h,w] in [0,1]; `motion` and `own_motion` (without the camera), mean pixels per second;
    `still`: nothing reaches the floor; `camera`, an index of LABELS; `kind`, of KINDS; `inliers`: the mean
    share of a frame that the camera explains; `brightness`.

    Raises:
        ValueError: frames would be left over.
    """
    vectors = flow["flow"].float()
    residual = flow["residual"].float()
    least = floor / fps  # pixels per frame
    kind = motion_kind(vectors, residual, LABELS[int(flow["label"])], least)
    if kind == "camera":
        residual = torch.zeros_like(residual)  # what the camera's model leaves over is no motion

    displacement = masking.magnitude(residual if camera == "remove" else vectors)
    if confidence:
        displacement = displacement * flow["confidence"] / 255
    mask = masking.motion_mask(displacement, least, percentile, time_stride, grid)
    if not enabled:
        mask = torch.ones_like(mask)

    from_first = reference == "first"
    return {
        "mask": mask.to(torch.float16),
        "motion": masking.mean_speed(vectors, fps, from_first),
        "own_motion": masking.mean_speed(residual, fps, from_first),
        "still": torch.tensor(masking.is_still(displacement, least)),
        "camera": flow["label"],
        "kind": torch.tensor(KINDS.index(kind), dtype=torch.uint8),
        "inliers": flow["inliers"][1:].mean(),
        "brightness": flow["brightness"],
    }


# ---- frames, caption -> latent, text


def encode_clip(
    frames: UInt8[np.ndarray, "F H W 3"],
    caption: str,
    *,
    vae: Any,
    tokenizer: Any,
    text_encoder: Any,
    max_tokens: int,
    first_frame: Kind | None = None,
    image_encoder: tuple[Any, Any] | None = None,
) -> dict[str, Tensor]:
    """`latent` f16 [C,T,h,w] and `text` bf16 [S,E] of a clip, as the backbone sees them.

    The models are as `load_vae`, `load_text_encoder` and `load_image_encoder` return them; captions are cut
    to `max_tokens`. `first_frame`: how the backbone is given it. If beside the latents, there are also
    `channels` f16 [X,T,h,w] and, for a model that attends to it, `image` bf16 [P,E].

    Raises:
        FloatingPointError: the VAE makes no numbers of it.
    """
    latent = encode_video(vae, frames).half()
    if not latent.isfinite().all():
        raise FloatingPointError("the VAE's latent is not finite in float16")
    text = encode_text(tokenizer, text_encoder, caption, max_tokens)
    clip = {"latent": latent, "text": text.bfloat16()}
    if first_frame == "channels":
        clip["channels"] = encode_first_frame(vae, frames[0], len(frames)).half()
        if image_encoder is not None:
            clip["image"] = encode_image(*image_encoder, frames[0]).bfloat16()
    return clip


# ---- latent, text, mask -> sketch


def sketch_clip(
    latent: Float[Tensor, "C T h w"],
    text: Float[Tensor, "S E"],
    mask: Float[Tensor, "T h w"],
    *,
    model: nn.Module,
    velocity: Velocity,
    plan: Plan,
    projection: Projection,
    segments: int,
    storage: Storage,
    clean_first_frame: bool = False,
) -> dict[str, Tensor]:
    """The projected gradient of a clip's motion-weighted loss, in the parameters that require one.

    `model` is any module and `velocity(model, noised, sigma, text)` what it predicts of latents
    [1,C,T,h,w], noise level [1] and text [1,S,E]. `projection` is on the model's device. `segments`: into
    how many ranges of latent frames the sketch is divided. `clean_first_frame`: the model is given the first
    latent frame without noise; it is not predicted, so it has no weight.

    `sketch` [K,D] for K noise levels, packed as `storage` says; `loss` and `norm` (of the gradient, as the
    sketch has it) f32 [K]; `ok`: something moves. With segments also `segments` f16 [S,K,D], which add up to
    the sketch.

    Raises:
        FloatingPointError: a loss or a gradient is not finite.
    """
    num_sigmas = len(plan.sigmas)
    if clean_first_frame:
        mask = without_first_frame(mask)
    if mask.any():
        device = next(model.parameters()).device
        shares, losses = _segment_sketches(
            latent.float().to(device),
            text.float()[None].to(device),
            segment_masks(mask.float().to(device), segments),
            model,
            velocity,
            plan,
            projection,
            clean_first_frame,
        )
    else:  # nothing moves: the motion-weighted loss is zero, and so is its gradient
        shares = torch.zeros(segments, num_sigmas, projection.dim)
        losses = torch.zeros(num_sigmas)

    whole = shares.sum(0)
    norm = whole.norm(dim=-1)
    clip = {"sketch": pack(whole, storage), "loss": losses, "norm": norm, "ok": mask.any()}
    if segments > 1:
        clip["segments"] = (shares / (norm[:, None].clamp_min(1e-30) * num_sigmas**0.5)).half()
    return clip


def _segment_sketches(
    z: Float[Tensor, "C T h w"],
    e: Float[Tensor, "1 S E"],
    masks: Float[Tensor, "N T h w"],
    model: nn.Module,
    velocity: Velocity,
    plan: Plan,
    projection: Projection,
    clean_first_frame: bool,
) -> tuple[Float[Tensor, "N K D"], Float[Tensor, "K"]]:
    """The projected gradients of each segment at each noise level, and the losses of the whole clip."""
    sketches = torch.zeros(len(masks), len(plan.sigmas), projection.dim)
    losses = torch.zeros(len(plan.sigmas))
    eps = plan.noise(tuple(z.shape)).to(z.device)  # pyright: ignore[reportArgumentType]
    first = 1 if clean_first_frame else 0  # of the frames that are predicted
    target = target_velocity(z, eps)[:, first:]
    for k, sigma in enumerate(plan.sigmas):
        z_sigma = noised(z, eps, sigma)
        if clean_first_frame:
            z_sigma = with_clean_first_frame(z_sigma, z)
        v = velocity(
            model,
            z_sigma[None],
            torch.tensor([sigma], device=z.device),
            e,
        )[0]
        for n, W in enumerate(masks):
            loss = motion_weighted_loss(v[:, first:], target, W[first:])
            if not loss.isfinite():
                raise FloatingPointError(f"the loss at sigma {sigma:g} is not finite ({loss.item()})")
            # The segments share one forward pass.
            sketches[n, k] = sketch_gradient(loss, model, projection, keep_graph=n + 1 < len(masks)).cpu()
            losses[k] += loss.detach().cpu()
        if not sketches[:, k].isfinite().all():
            raise FloatingPointError(f"the gradient at sigma {sigma:g} is not finite (loss {losses[k]:g})")
    return sketches, losses
