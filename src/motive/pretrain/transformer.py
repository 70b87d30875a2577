"""Trains the tiny transformer and its text encoder on latents: good at looks, weak in motion, like its big sisters.

Only a small share of its clips moves as physics would have it; most are still, moved by the camera, or wrong.
"""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from motive.adapters import backbones
from motive.adapters.tiny_wan import build_text_encoder, build_transformer, build_vae, save_pipeline
from motive.formats.checkpoints import read_checkpoint, write_checkpoint
from motive.maths.training import batch_rows, learning_rate, rng_of, training_loss
from motive.pretrain.frames import WORK, draw_frames
from motive.world.scenes import vocabulary

NUM_CLIPS, PHYSICAL_SHARE, SEED = 5000, 0.15, 2_000_002
STEPS, BATCH, PEAK_RATE, WARMUP = 3500, 8, 1e-3, 200
SHIFT, MAX_TOKENS, DROP_TEXT = 3.0, 32, 0.1
CHECKPOINT, LATENTS = WORK / "transformer.safetensors", WORK / "latents.safetensors"
log = logging.getLogger("motive")


def encode_latents() -> None:
    """Encode the transformer's clips with the trained VAE: posterior modes and their statistics, kept in one file."""
    from safetensors.torch import save_file

    drawn = draw_frames("transformer", NUM_CLIPS, PHYSICAL_SHARE, SEED)
    torch.set_num_threads(1)
    vae = load_trained_vae()
    modes = [backbones.encode_video(vae, frames) for frames in tqdm(drawn.frames, desc="latents", unit="clip")]
    z = torch.stack(modes)
    mean, std = z.mean((0, 2, 3, 4)), z.std((0, 2, 3, 4))
    save_file({"latent": ((z - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)).half(), "mean": mean, "std": std}, LATENTS)
    log.info("latents are in %s; next: motive pretrain transformer", LATENTS)


def load_trained_vae(mean: Tensor | None = None, std: Tensor | None = None) -> nn.Module:
    """The VAE of the last checkpoint, frozen, with latent statistics if they are known."""
    from motive.pretrain.vae import CHECKPOINT as VAE

    vae = build_vae(*(None if x is None else x.tolist() for x in (mean, std)))
    if not read_checkpoint(VAE, vae, torch.optim.AdamW(vae.parameters())):
        raise ValueError(f"{VAE} is missing: run `motive pretrain vae` first")
    return vae.eval().requires_grad_(False)


class Conditioned(nn.Module):
    """The transformer with its text encoder, trained together: velocity of noised latents under token ids."""

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        self.tokenizer, self.text = build_text_encoder(words)
        self.transformer = build_transformer()

    def tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask [B,S], padded to the length that the pipeline will use."""
        encoded = self.tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
        return encoded.input_ids, encoded.attention_mask

    def forward(self, noised: Tensor, sigma: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """noised [B,C,T,h,w], sigma [B] -> velocity [B,C,T,h,w]."""
        text = self.text(ids, mask).last_hidden_state * mask[..., None]
        return backbones.velocity(self.transformer, noised, sigma, text)


def train_transformer(steps: int = STEPS) -> None:
    """Train for a number of steps; a second call goes on at the last checkpoint."""
    from safetensors.torch import load_file

    if not LATENTS.is_file():
        raise ValueError(f"{LATENTS} is missing: run `motive pretrain latents` first")
    z = load_file(LATENTS)["latent"]
    captions = draw_frames("transformer", NUM_CLIPS, PHYSICAL_SHARE, SEED).captions
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Conditioned(vocabulary()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    start = read_checkpoint(CHECKPOINT, model, optimizer)
    progress = tqdm(range(start, steps), initial=start, total=steps, desc="transformer", unit="step", mininterval=10)
    running = None
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, PEAK_RATE, WARMUP)
        rng = rng_of("pretrain", step)
        rows = batch_rows(step, BATCH, len(z), SEED)
        dropped = torch.rand(BATCH, generator=rng) < DROP_TEXT
        ids, mask = model.tokens(["" if drop else captions[row] for row, drop in zip(rows, dropped)])
        with torch.autocast("cpu", torch.bfloat16):
            loss = training_loss(lambda x, sigma: model(x, sigma, ids, mask), z[rows].float(), SHIFT, rng)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        running = float(loss.detach()) if running is None else 0.99 * running + 0.01 * float(loss.detach())
        progress.set_postfix(loss=f"{running:.4f}")
        if (step + 1) % 250 == 0 or step + 1 == steps:
            write_checkpoint(CHECKPOINT, step + 1, model, optimizer)
    log.info("the transformer is in %s; next: motive pretrain package", CHECKPOINT)


def package(out: Path) -> None:
    """Put the trained parts together as a `WanPipeline` folder."""
    from safetensors.torch import load_file

    statistics = load_file(LATENTS)
    model = Conditioned(vocabulary())
    if not read_checkpoint(CHECKPOINT, model, torch.optim.AdamW(model.parameters())):
        raise ValueError(f"{CHECKPOINT} is missing: run `motive pretrain transformer` first")
    vae = load_trained_vae(statistics["mean"], statistics["std"])
    save_pipeline(out, vae, model.transformer, model.text, model.tokenizer)
    log.info("the model is in %s; next: motive pretrain card", out)
