"""Trains the tiny transformer and its text encoder: good at looks, weak in motion, like its sisters.

Only a small share of its clips moves as physics would have it; most are still, moved by the camera, or
wrong. It learns looks from single frames first, a dozen times cheaper than clips, and motion later.
"""

import json
import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from motive.maths.training import learning_rate, rng_of, training_loss
from motive.models import backbones
from motive.store.checkpoints import read_checkpoint, write_checkpoint
from toyworld.pretrain.frames import NUM_FRAMES, WORK, draw_frames
from toyworld.scenes import vocabulary
from toyworld.tiny_wan import build_text_encoder, build_transformer, build_vae, save_pipeline

NUM_CLIPS = 10_000
PHYSICAL_SHARE = 0.15
SEED = 2_000_002
STEPS = 14_000
FRAMES = 52  # in a step
WARMUP = 200  # steps
THREADS = 2
PEAK_RATES = {"muon": 0.03, "adamw": 2e-3}  # of the blocks' matrices, and of all the rest
LENGTHS = (1, 4, 13)  # frames of a window; a step has FRAMES in all
EARLY = (0.7, 0.2, 0.1)  # shares of the lengths, looks first ...
LATE = (0.15, 0.15, 0.7)  # ... and later
LATE_FROM = 0.3  # of the steps
SHIFT = 2.0
MAX_TOKENS = 32
DROP_TEXT = 0.1
KEEP_EVERY = 250  # steps
CHECKPOINT = WORK / "transformer.safetensors"
LATENTS = WORK / "latents.safetensors"
log = logging.getLogger("motive")


def encode_latents() -> None:
    """Encode the transformer's clips with the trained VAE: normalised latents and their statistics."""
    from safetensors.torch import save_file

    vae = load_trained_vae()
    drawn = draw_frames("transformer", NUM_CLIPS, PHYSICAL_SHARE, SEED)
    torch.set_num_threads(THREADS)
    clips = tqdm(drawn.frames, desc="latents", unit="clip")
    z = torch.stack([backbones.encode_video(vae, frames.copy()) for frames in clips])  # [N,C,T,h,w]

    # Each channel gets mean 0 and std 1, as the transformer will see it.
    mean = z.mean((0, 2, 3, 4))
    std = z.std((0, 2, 3, 4))
    normalised = (z - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)
    save_file({"latent": normalised.half(), "mean": mean, "std": std}, LATENTS)
    log.info("latents are in %s; next: python -m toyworld pretrain transformer", LATENTS)


def load_trained_vae(mean: Tensor | None = None, std: Tensor | None = None) -> nn.Module:
    """The VAE of the last checkpoint, frozen, with latent statistics [C] if there are any yet."""
    from toyworld.pretrain.vae import CHECKPOINT as VAE

    if mean is None or std is None:
        vae = build_vae()
    else:
        vae = build_vae(mean.tolist(), std.tolist())
    if not read_checkpoint(VAE, vae, torch.optim.AdamW(vae.parameters())):
        raise ValueError(f"{VAE} is missing: run `python -m toyworld pretrain vae` first")
    return vae.eval().requires_grad_(False)


class Conditioned(nn.Module):
    """The transformer with its text encoder, trained together: velocity of noised latents under token ids."""

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        self.tokenizer, self.text = build_text_encoder(words)
        self.transformer = build_transformer()

    def tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask [B,S], padded to the length that the pipeline will use."""
        encoded = self.tokenizer(
            captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        )
        return encoded.input_ids, encoded.attention_mask

    def forward(self, noised: Tensor, sigma: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """noised [B,C,T,h,w], sigma [B] -> velocity [B,C,T,h,w]."""
        text = self.text(ids, mask).last_hidden_state * mask[..., None]
        return backbones.velocity(self.transformer, noised, sigma, text)


def optimizers_of(model: Conditioned) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's blocks, AdamW for all the rest.

    In a minute of single frames it came further than AdamW alone: docs/decisions/0003.
    """
    matrices = {p for p in model.transformer.blocks.parameters() if p.ndim == 2}
    rest = [p for p in model.parameters() if p not in matrices]
    return {
        "muon": torch.optim.Muon(
            [p for p in model.parameters() if p in matrices], PEAK_RATES["muon"], weight_decay=0.05
        ),
        "adamw": torch.optim.AdamW(rest, PEAK_RATES["adamw"], betas=(0.9, 0.99), weight_decay=0.01),
    }


def window_at(step: int, steps: int, num_clips: int) -> tuple[Tensor, slice]:
    """The clips of a step and the frames that it sees of each."""
    rng = rng_of("window", SEED, step)
    shares = torch.tensor(EARLY if step < LATE_FROM * steps else LATE)
    length = LENGTHS[int(torch.multinomial(shares, 1, generator=rng))]
    start = int(torch.randint(NUM_FRAMES - length + 1, (), generator=rng))
    return torch.randint(num_clips, (FRAMES // length,), generator=rng), slice(start, start + length)


def train_transformer(steps: int = STEPS) -> None:
    """Train for a number of steps; a second call goes on at the last checkpoint."""
    from safetensors.torch import load_file

    if not LATENTS.is_file():
        raise ValueError(f"{LATENTS} is missing: run `python -m toyworld pretrain latents` first")
    z = load_file(LATENTS)["latent"]
    captions = draw_frames("transformer", NUM_CLIPS, PHYSICAL_SHARE, SEED).captions
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    model = Conditioned(vocabulary()).train()
    optimizers = optimizers_of(model)
    start = read_checkpoint(CHECKPOINT, model, *optimizers.values())
    progress = tqdm(
        range(start, steps), initial=start, total=steps, desc="transformer", unit="step", mininterval=10
    )
    running = dict.fromkeys(LENGTHS, 2.0)
    for step in progress:
        for name, optimizer in optimizers.items():
            optimizer.param_groups[0]["lr"] = learning_rate(step, steps, PEAK_RATES[name], WARMUP)
        rows, frames = window_at(step, steps, len(z))
        rng = rng_of("pretrain", step)
        dropped = torch.rand(len(rows), generator=rng) < DROP_TEXT
        ids, mask = model.tokens(
            ["" if drop else captions[row] for row, drop in zip(rows, dropped, strict=True)]
        )
        with torch.autocast("cpu", torch.bfloat16):
            loss = training_loss(
                lambda x, sigma, ids=ids, mask=mask: model(x, sigma, ids, mask),
                z[rows][:, :, frames].float(),
                SHIFT,
                rng,
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        length = frames.stop - frames.start
        running[length] += 0.02 * (float(loss.detach()) - running[length])
        progress.set_postfix({f"{length} frames": f"{loss:.3f}" for length, loss in running.items()})
        if (step + 1) % KEEP_EVERY == 0 or step + 1 == steps:
            write_checkpoint(CHECKPOINT, step + 1, model, *optimizers.values())
    log.info("the transformer is in %s; next: python -m toyworld pretrain package", CHECKPOINT)


def package(out: Path) -> None:
    """Put the trained parts together as a `WanPipeline` folder."""
    from safetensors.torch import load_file

    statistics = load_file(LATENTS)
    model = Conditioned(vocabulary())
    step = read_checkpoint(CHECKPOINT, model, *optimizers_of(model).values())
    if not step:
        raise ValueError(f"{CHECKPOINT} is missing: run `python -m toyworld pretrain transformer` first")
    vae = load_trained_vae(statistics["mean"], statistics["std"])
    save_pipeline(out, vae, model.transformer, model.text, model.tokenizer)
    (out / "training.json").write_text(json.dumps({"step": step, "steps": STEPS}) + "\n")
    log.info("the model, of step %d of %d, is in %s; next: pretrain readme", step, STEPS, out)
