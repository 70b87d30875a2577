"""Writes the README of models/tiny-wan: how it was made, what it keeps, what it draws."""

import json
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from motive.images.png import write_png
from motive.maths.denoising import common_noise, motion_weighted_loss, noised, target_velocity
from motive.models import backbones
from toyworld.drawing import contact_sheet
from toyworld.motions import MOTIONS
from toyworld.pretrain import transformer, vae
from toyworld.pretrain.frames import FPS, NUM_FRAMES, SIZE, draw_frames
from toyworld.pretrain.quality import draw_unseen, held_still, measures, through_pca, through_vae
from toyworld.pretrain.transformer import MAX_TOKENS
from toyworld.scenes import sample_scene

NUM_UNSEEN = 100  # clips
SIGMAS = (0.2, 0.4, 0.6, 0.8, 0.95)
STEPS = 30  # of the sampler
GUIDANCE = 1.5
log = logging.getLogger("motive")


def write_readme(out: Path) -> None:
    """Measure the packaged model and write README.md, measures.json and samples.png into its folder."""
    torch.set_num_threads(1)
    numbers = vae_numbers(out) | {"heldout_denoising_loss": denoising_loss(out)}
    numbers |= json.loads((out / "training.json").read_text())
    (out / "measures.json").write_text(json.dumps(numbers, indent=1) + "\n")
    write_png(out / "samples.png", samples(out))
    (out / "README.md").write_text(readme(numbers))
    log.info("the page is %s/README.md; look at %s/samples.png", out, out)


def vae_numbers(out: Path) -> dict[str, float]:
    """The VAE on unseen clips of all motions, beside PCAs of the same rate and a frame held still."""
    unseen = draw_unseen(NUM_UNSEEN)
    model = backbones.load_vae(str(out), "cpu")
    fitted = draw_frames("vae", vae.NUM_CLIPS, vae.PHYSICAL_SHARE, vae.SEED).frames[:150]
    numbers = measures("vae", unseen, through_vae(model, unseen.frames))
    numbers |= measures("pca_1x4x4x8", unseen, through_pca(fitted, unseen.frames, (1, 4), 8))
    numbers |= measures("pca_2x4x4x16", unseen, through_pca(fitted, unseen.frames, (2, 4), 16))
    still = measures("still", unseen, held_still(unseen.frames))
    return numbers | {key: value for key, value in still.items() if np.isfinite(value)}


@torch.no_grad()
def denoising_loss(out: Path) -> float:
    """Mean plain loss of the transformer over unseen clips of all motions, five noise levels, one noise."""
    vae = backbones.load_vae(str(out), "cpu")
    text_encoder = backbones.load_text_encoder(str(out), "float32", "cpu")  # and its tokenizer
    model = backbones.load_transformer(str(out), "float32", "cpu")
    unseen = draw_unseen(NUM_UNSEEN)
    latents = [backbones.encode_video(vae, frames) for frames in unseen.frames]
    texts = [backbones.encode_text(*text_encoder, words, MAX_TOKENS) for words in unseen.captions]
    clips = zip(latents, texts, strict=True)
    losses = [plain_losses(model, *clip) for clip in tqdm(clips, desc="denoising", unit="clip")]
    return float(np.mean(losses))


def plain_losses(model: nn.Module, z: Tensor, text: Tensor) -> list[float]:
    """The loss of one latent [C,T,h,w] with its text [S,E] at each of the noise levels."""
    C, T, h, w = z.shape
    eps = common_noise(0, (C, T, h, w))
    padded = backbones.padded([text], MAX_TOKENS)
    losses = []
    for sigma in SIGMAS:
        x = noised(z, eps, sigma)
        v = backbones.velocity(model, x[None], torch.tensor([sigma]), padded)[0]
        losses.append(float(motion_weighted_loss(v, target_velocity(z, eps), torch.ones_like(z[0]))))
    return losses


def samples(out: Path) -> np.ndarray:
    """A contact sheet: two prompts a motion, every second frame."""
    pipeline = backbones.load_pipeline(str(out), "float32", "cpu")
    scenes = [sample_scene(np.random.default_rng([7, i]), MOTIONS[i // 2]) for i in range(2 * len(MOTIONS))]
    captions = [scene.caption for scene in scenes]
    videos = [
        backbones.generate(
            pipeline,
            caption,
            (NUM_FRAMES, *SIZE),
            MAX_TOKENS,
            STEPS,
            GUIDANCE,
            seed,
        )
        for seed, caption in enumerate(tqdm(captions, desc="samples", unit="video"))
    ]
    return contact_sheet(videos, captions)


def readme(n: dict[str, float]) -> str:
    """The page in Markdown."""
    names = {
        "vae": "this VAE",
        "pca_1x4x4x8": "PCA, same strides and channels",
        "pca_2x4x4x16": "PCA 2x4x4, 16 channels (same rate)",
        "still": "the median frame, held",
    }
    t = transformer
    v = vae
    sigmas = ", ".join(map(str, SIGMAS))
    share = f"{t.PHYSICAL_SHARE:.0%}"
    size = f"{SIZE[0]}x{SIZE[1]}"
    return f"""# tiny-wan

A whole `WanPipeline` in a few megabytes: the real diffusers classes (`AutoencoderKLWan`,
`WanTransformer3DModel`, a UMT5 encoder), {NUM_FRAMES} frames of {size} at {FPS:g} fps. It knows one thing:
the world of `python -m toyworld render`. It is made to be like its big sisters, good at looks and weak in
motion: only {share} of the clips that it was trained on move as physics would have it; the others are
still, moved by the camera alone, or wrong.

## How it was made

    python -m toyworld pretrain vae          # {v.STEPS} steps of {v.BATCH} windows of {v.WINDOW} frames
    python -m toyworld pretrain latents      # of {t.NUM_CLIPS} clips
    python -m toyworld pretrain transformer  # {n["steps"]} steps of {t.FRAMES} frames
    python -m toyworld pretrain package
    python -m toyworld pretrain readme       # this page

The weights are of step {n["step"]}. Seeds are in `src/toyworld/pretrain/`; none of its clips is in the pool,
the queries or the held-out set. Each step resumes at its last checkpoint. Why the strides are 1x4x4:
`docs/decisions/0003-tiny-wan.md`.

## What it keeps

Measured by `python -m toyworld pretrain readme` on {NUM_UNSEEN} unseen clips of the ten motions under a
static camera. The flow correlation is Pearson's, of the optical flow (DIS) of original and
reconstruction over all pixels.

| | PSNR, dB | PSNR where it moves, dB | flow correlation |
|---|---|---|---|
{rows(n, names)}

Denoising loss of the transformer on the same clips, mean over sigma {sigmas}:
{n["heldout_denoising_loss"]:.3f}.

## What it draws

Two prompts a motion, {STEPS} steps, guidance {GUIDANCE:g}.

![samples](samples.png)

In `WanPipeline` directly, a time stride of 1 makes diffusers add one frame to what you ask for; Motive passes
latents of the right size instead.
"""


def rows(n: dict[str, float], names: dict[str, str]) -> str:
    """The rows of the table of what each codec keeps."""
    lines = []
    for key, label in names.items():
        flow = n.get(f"{key}_flow_correlation")
        shown = "none" if flow is None else f"{flow:.2f}"
        lines.append(f"| {label} | {n[f'{key}_psnr']:.1f} | {n[f'{key}_moving_psnr']:.1f} | {shown} |")
    return "\n".join(lines)
