"""Measures tiny-wan and writes its page: how it was made, what it keeps, what it draws, what it believes."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from motive.images.png import write_png
from motive.models import backbones
from toyworld.drawing import contact_sheet
from toyworld.falls import Array, draw_falls, fallen, is_of_fall
from toyworld.measures.judge import judge_auc
from toyworld.measures.motion import LAW_NAMES
from toyworld.pretrain import decoder, latents, transformer
from toyworld.pretrain.frames import FPS, NUM_FRAMES, SIZE
from toyworld.pretrain.quality import (
    GUIDANCE,
    STEPS,
    Unseen,
    Videos,
    draw_unseen,
    make_videos,
    measures,
    psnr,
    through_vae,
)

NUM_UNSEEN = 100  # clips
KINDS = {  # what is measured: the beginning of its keys, and what the page calls it
    "real": "true clips",
    "vae": "true clips through the VAE",
    "first_frame": "videos from first frames",
    "text": "videos from text",
}
log = logging.getLogger("motive")


def write_readme(out: Path) -> None:
    """Measure the packaged model and write its README.md, measures.json, samples.png and falls.png."""
    torch.set_num_threads(1)
    unseen = draw_unseen(NUM_UNSEEN)
    kept = through_vae(backbones.load_vae(str(out), "cpu"), unseen.frames)
    videos = {name: make_videos(str(out), unseen, name) for name in ("first_frame", "text")}
    numbers: dict[str, Any] = {
        "vae_psnr": psnr(unseen.frames, kept),
        "vae_moving_psnr": psnr(unseen.frames, kept, unseen.moving),
        **measures("real", unseen.frames, unseen),
        **measures("vae", kept, unseen),
        **measures("first_frame", videos["first_frame"], unseen),
        **measures("text", videos["text"], unseen),
        **judge_auc(),
        **json.loads((out / "training.json").read_text()),
    }
    (out / "measures.json").write_text(json.dumps(numbers, indent=1) + "\n")
    write_png(out / "samples.png", samples(unseen, videos["first_frame"]))
    both = {"true clips": unseen.frames, "base": videos["first_frame"]}
    draw_falls(out / "falls.png", falls_of(unseen, both), FPS)
    (out / "README.md").write_text(readme(numbers))
    log.info("the page is %s/README.md; look at %s/samples.png and falls.png", out, out)


def samples(unseen: Unseen, videos: Videos) -> np.ndarray:
    """A contact sheet: of each motion a true clip, and what the model makes of its first frame."""
    rows = []
    labels = []
    for motion in dict.fromkeys(unseen.motions):
        index = unseen.motions.index(motion)
        rows += [unseen.frames[index], videos[index]]
        labels += [f"{motion}: true", unseen.captions[index]]
    return contact_sheet(rows, labels)


def falls_of(unseen: Unseen, videos: dict[str, Videos]) -> dict[str, list[Array]]:
    """How far objects fall in some groups of videos of the same first frames."""
    rows = [row for row, caption in enumerate(unseen.captions) if is_of_fall(caption)]
    return {
        name: [fallen(clips[row], unseen.captions[row]) for row in rows] for name, clips in videos.items()
    }


def readme(n: dict[str, Any]) -> str:
    """The page in Markdown."""
    size = f"{SIZE[0]}x{SIZE[1]}"
    return f"""# tiny-wan

A whole `WanPipeline` in a few megabytes: the real diffusers classes (`AutoencoderKLWan`,
`WanTransformer3DModel`, a UMT5 encoder), {NUM_FRAMES} frames of {size} at {FPS:g} fps, from text or from a
first frame. It knows one thing: the world of `python -m toyworld render`. It is made to be like its big
sisters, good at looks and wrong in motion: 65 of 75 moving clips that it learned from broke the physics,
under the captions of true ones.

## How it was made

    python -m toyworld pretrain vae          # its encoder, a PCA of {latents.NUM_CODE_CLIPS} clips
    python -m toyworld pretrain latents      # of {latents.NUM_CLIPS} clips
    python -m toyworld pretrain decoder      # {decoder.STEPS} steps of {decoder.BATCH} frames
    python -m toyworld pretrain transformer  # {n["steps"]} steps of {transformer.FRAMES} frames
    python -m toyworld pretrain judge        # the judge of motion, from fresh scenes
    python -m toyworld pretrain package
    python -m toyworld pretrain readme       # this page

The weights are of step {n["step"]}. Seeds are in `src/toyworld/pretrain/`; none of its clips is in the pool,
the queries or the held-out set. A killed training goes on at its last checkpoint. Why it is made so:
`docs/decisions/0003-tiny-wan.md`.

## What it keeps, and what it believes

Measured by `python -m toyworld pretrain readme` on {NUM_UNSEEN} unseen true clips of the ten motions.
*Holds*: the object keeps its shape and size from frame to frame, as far as its motion lets it. *Physical*:
mean probability by the judge, which sees only the object's path. The sampler takes {STEPS} steps, at
guidance {GUIDANCE:g}.

| | holds | physical |
|---|---|---|
{_rows(n)}

The VAE keeps {n["vae_psnr"]:.1f} dB, and {n["vae_moving_psnr"]:.1f} dB where something moves.
The judge tells true from false motion with an AUC of {n["judge_auc"]:.3f} on scenes that it has not seen.

The means of what shows each law, in px and seconds:

{_laws(n)}

![falls](falls.png)

Of each motion a true clip, and below it what the model makes of that clip's first frame and caption:

![samples](samples.png)
"""


def _rows(n: dict[str, Any]) -> str:
    return "\n".join(
        f"| {label} | {n[f'{key}_holds']:.0%} | {n[f'{key}_physical']:.2f} |" for key, label in KINDS.items()
    )


def _laws(n: dict[str, Any]) -> str:
    head = f"| | {' | '.join(KINDS.values())} |"
    lines = [head, "|---" * (1 + len(KINDS)) + "|"]
    for law in LAW_NAMES:
        values = [n[f"{key}_{law}"] for key in KINDS]
        cells = ["" if value is None else f"{value:.2f}" for value in values]
        lines.append(f"| {law.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)
