"""Measures tiny-wan on unseen clips: what its VAE keeps, and what it makes of a text or a first frame."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from motive.models import backbones
from motive.models.first_frame import Condition
from toyworld.drawing import draw_clip
from toyworld.measures.motion import LAW_NAMES
from toyworld.measures.videos import measure_video
from toyworld.motions import MOTIONS
from toyworld.pretrain.frames import FPS, MAX_TOKENS, NUM_FRAMES, SIZE, moving_region
from toyworld.scenes import sample_scene

SEED = 3_000_003
STEPS = 4  # of the sampler
GUIDANCE = 1.0
Videos = NDArray[np.uint8]  # [N,F,H,W,3]


class Unseen(NamedTuple):
    """Clips of the ten motions in turn, physical and under a static camera; `moving` bool [N,F,H,W]."""

    frames: Videos
    moving: NDArray[np.bool_]
    captions: list[str]
    motions: list[str]


def draw_unseen(num_clips: int) -> Unseen:
    """Fresh clips."""
    motions = [MOTIONS[i % len(MOTIONS)] for i in range(num_clips)]
    scenes = [sample_scene(np.random.default_rng([SEED, i]), motion) for i, motion in enumerate(motions)]
    clips = [draw_clip(scene, NUM_FRAMES, FPS) for scene in scenes]
    return Unseen(
        frames=np.stack([clip.frames for clip in clips]),
        moving=np.stack([moving_region(clip.mask, clip.flow) for clip in clips]),
        captions=[scene.caption for scene in scenes],
        motions=motions,
    )


def psnr(a: Videos, b: Videos, where: NDArray[np.bool_] | None = None) -> float:
    """Of 8-bit frames [N,F,H,W,3], in dB, within a region [N,F,H,W] or everywhere."""
    error = (a.astype(np.float32) - b) ** 2
    return float(10 * np.log10(255**2 / (error if where is None else error[where]).mean()))


def through_vae(vae: Any, frames: Videos) -> Videos:
    """Encode and decode clips [N,F,H,W,3]."""
    return np.stack([backbones.decode_video(vae, backbones.encode_video(vae, clip)) for clip in frames])


def make_videos(model: str, unseen: Unseen, condition: Condition) -> Videos:
    """A video for each caption, and from each first frame if that is the condition."""
    pipeline = backbones.load_pipeline(model, "float32", "cpu", condition=condition)
    videos = []
    for seed, caption in enumerate(tqdm(unseen.captions, desc=condition, unit="video")):
        video = backbones.generate(
            pipeline,
            caption,
            (NUM_FRAMES, *SIZE),
            MAX_TOKENS,
            STEPS,
            GUIDANCE,
            seed,
            first_frame=unseen.frames[seed, 0] if condition == "first_frame" else None,
        )
        videos.append(video)
    return np.stack(videos)


def measures(name: str, videos: Videos, unseen: Unseen) -> dict[str, Any]:
    """Shares that hold and mean P(physical), whole and of each motion, and the mean of each law's number.

    Keys begin with a name. A law's number is None where no video says it.
    """
    rows = [measure_video(*clip, FPS) for clip in zip(videos, unseen.captions, strict=True)]
    numbers: dict[str, Any] = {}
    for key in ("holds", "physical"):
        values = np.array([row[key] for row in rows])
        numbers[f"{name}_{key}"] = float(values.mean())
        of_motion = {m: values[np.array(unseen.motions) == m] for m in dict.fromkeys(unseen.motions)}
        numbers[f"{name}_{key}_by_motion"] = {m: float(kept.mean()) for m, kept in of_motion.items()}
    for law in LAW_NAMES:
        values = np.array([row[law] for row in rows])
        measured = values[np.isfinite(values)]
        numbers[f"{name}_{law}"] = float(measured.mean()) if measured.size else None
    return numbers
