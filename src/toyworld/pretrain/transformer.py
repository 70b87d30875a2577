"""Trains the tiny transformer and its text encoder: it holds its objects, and gets the physics wrong.

Most of its clips move by a false law (`scenes.training_scene`). In most steps it is given the first frame
without noise, as Wan 2.2's 5B model is: so one model makes videos from text and from an image. It learns to
carry that frame on from three frames first, a third of the price of a clip, and laws from whole clips later.
"""

import json
import logging
import time
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from motive.maths.training import rng_of, training_loss
from motive.models import backbones
from motive.models.first_frame import FirstFrame
from motive.store.checkpoints import read_checkpoint, write_checkpoint
from motive.store.files import write_tensors
from toyworld.pretrain.decoder import trained_vae
from toyworld.pretrain.frames import MAX_TOKENS, NUM_FRAMES, WORK
from toyworld.pretrain.latents import CAPTIONS, LATENTS
from toyworld.pretrain.muon import Muon
from toyworld.scenes import vocabulary
from toyworld.tiny_wan import build_text_encoder, build_transformer, save_pipeline

STEPS = 13_000
FRAMES = 36  # in a step
WARMUP = 200  # steps
FALL_FROM = 0.8  # of the steps: from here on the learning rates fall to zero
PEAK_RATES = {"muon": 0.02, "adamw": 1.5e-3}  # of the blocks' matrices, and of all the rest
LENGTHS = (1, 3, 9)  # frames of a window; a step has FRAMES in all
EARLY = (0.1, 0.6, 0.3)  # shares of the lengths, short windows first ...
LATE = (0.1, 0.2, 0.7)  # ... and later
LATE_FROM = 0.43  # of the steps
FIRST_FRAME_SHARE = 0.6  # of the steps with more than one frame
# Of the noise levels. A whole object shows through noise that hides each of its tokens, so where it goes is
# learned at high noise alone; its edges are learned once the learning rates fall.
EARLY_SHIFT = 12.0
LATE_SHIFT = 5.0
AVERAGE = 0.997  # decay of the running mean of the weights, which is what ships
DROP_TEXT = 0.1
KEEP_EVERY = 100  # steps
LATE_WEIGHTS = (0.9, 0.95, 1.0)  # of the steps: the weights that stay, for ensembles
CHECKPOINT = WORK / "transformer.safetensors"
log = logging.getLogger("motive")


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

    def forward(self, noised: Tensor, sigma: Tensor, ids: Tensor, mask: Tensor, first_frame: bool) -> Tensor:
        """noised [B,C,T,h,w], sigma [B] -> velocity [B,C,T,h,w]."""
        text = self.text(ids, mask).last_hidden_state * mask[..., None]
        given = FirstFrame() if first_frame else None
        return backbones.velocity(self.transformer, noised, sigma, text, first_frame=given)


def optimizers_of(model: Conditioned) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's blocks, AdamW for all the rest.

    In a minute of single frames it came further than AdamW alone: docs/decisions/0003.
    """
    matrices = {p for p in model.transformer.blocks.parameters() if p.ndim == 2}
    rest = [p for p in model.parameters() if p not in matrices]
    return {
        "muon": Muon([p for p in model.parameters() if p in matrices], PEAK_RATES["muon"], weight_decay=0.05),
        "adamw": torch.optim.AdamW(rest, PEAK_RATES["adamw"], betas=(0.9, 0.99), weight_decay=0.01),
    }


def rate_at(step: int, steps: int, peak: float) -> float:
    """A linear warm-up, a plain, and a linear fall to zero: where it ends can be chosen on the way."""
    rise = (step + 1) / WARMUP
    fall = (steps - step) / ((1 - FALL_FROM) * steps)
    return peak * min(1.0, rise, fall)


class Window(NamedTuple):
    """What a step sees: clips, the frames of each, and whether the first is given without noise."""

    rows: Tensor
    frames: slice
    first_frame: bool


def window_at(step: int, steps: int, num_clips: int) -> Window:
    """The window of a step, by the step alone. Only a single frame may come from later than the beginning."""
    rng = rng_of("window", step)
    shares = torch.tensor(EARLY if step < LATE_FROM * steps else LATE)
    length = LENGTHS[int(torch.multinomial(shares, 1, generator=rng))]
    start = int(torch.randint(NUM_FRAMES, (), generator=rng)) if length == 1 else 0
    rows = torch.randint(num_clips, (FRAMES // length,), generator=rng)
    first_frame = length > 1 and bool(torch.rand((), generator=rng) < FIRST_FRAME_SHARE)
    return Window(rows, slice(start, start + length), first_frame)


def fast_dtype() -> torch.dtype:
    """bfloat16 where this processor multiplies matrices faster in it, else float32: it is tried."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(512, 512, dtype=dtype)
        torch.mm(a, a)
        start = time.perf_counter()
        for _ in range(3):
            torch.mm(a, a)
        seconds[dtype] = time.perf_counter() - start
    fastest = min(seconds, key=seconds.__getitem__)
    log.info(
        "training in %s: matrix products take %s s",
        fastest,
        {str(k): round(v, 4) for k, v in seconds.items()},
    )
    return fastest


def averaged_file(step: int) -> Path:
    """Where the mean weights of a step lie."""
    return WORK / f"averaged-{step}.safetensors"


@torch.no_grad()
def read_averaged(step: int, model: nn.Module) -> None:
    """Give a model the mean weights of a step; names of parameters, since some tensors have two names."""
    weights = load_file(averaged_file(step))
    for name, p in model.named_parameters():
        p.copy_(weights[name])


def keep(step: int, steps: int, model: Conditioned, averaged: AveragedModel, optimizers: list) -> None:
    """Write what a killed run goes on from. The mean first: a checkpoint has one of its own step."""
    weights = {name: p.detach().contiguous() for name, p in averaged.module.named_parameters()}
    write_tensors(averaged_file(step), weights)
    write_checkpoint(CHECKPOINT, step, model, *optimizers)
    for path in WORK.glob("averaged-*.safetensors"):
        if path not in {averaged_file(step), *map(averaged_file, late_steps(steps))}:
            path.unlink()


def train_transformer(steps: int = STEPS, threads: int = 1) -> None:
    """Train for a number of steps; a second call goes on at the last checkpoint."""
    if not LATENTS.is_file():
        raise ValueError(f"{LATENTS} is missing: run `python -m toyworld pretrain latents` first")
    z = load_file(LATENTS)["latent"]
    captions = CAPTIONS.read_text().splitlines()
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    dtype = fast_dtype()
    model = Conditioned(vocabulary()).train()
    optimizers = optimizers_of(model)
    start = read_checkpoint(CHECKPOINT, model, *optimizers.values())
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE))
    if start:
        read_averaged(start, averaged.module)
        averaged.n_averaged.fill_(start)
    progress = tqdm(
        range(start, steps), initial=start, total=steps, desc="transformer", unit="step", mininterval=10
    )
    running: dict[str, float] = {}
    for step in progress:
        for name, optimizer in optimizers.items():
            optimizer.param_groups[0]["lr"] = rate_at(step, steps, PEAK_RATES[name])

        # One window of each of some clips, some without their caption.
        window = window_at(step, steps, len(z))
        rng = rng_of("pretrain", step)
        dropped = torch.rand(len(window.rows), generator=rng) < DROP_TEXT
        ids, mask = model.tokens(
            ["" if drop else captions[row] for row, drop in zip(window.rows, dropped, strict=True)]
        )
        latents = z[window.rows][:, :, window.frames].float()

        def velocity(
            x: Tensor, sigma: Tensor, ids: Tensor = ids, mask: Tensor = mask, window: Window = window
        ) -> Tensor:
            return model(x, sigma, ids, mask, window.first_frame)

        shift = EARLY_SHIFT if step < FALL_FROM * steps else LATE_SHIFT
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = training_loss(velocity, latents, shift, rng, window.first_frame)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        averaged.update_parameters(model)

        # What people see, and what a kill leaves.
        kind = f"{latents.shape[2]}{' of first' if window.first_frame else ''}"
        value = float(loss.detach())
        running[kind] = running.get(kind, value) + 0.02 * (value - running.get(kind, value))
        progress.set_postfix({name: f"{mean:.3f}" for name, mean in sorted(running.items())})
        done = step + 1
        if done % KEEP_EVERY == 0 or done in late_steps(steps):
            keep(done, steps, model, averaged, list(optimizers.values()))
    log.info("the transformer is in %s; next: python -m toyworld pretrain package", CHECKPOINT)


def late_steps(steps: int) -> list[int]:
    """The steps whose weights stay."""
    return [round(share * steps) for share in LATE_WEIGHTS]


def package(out: Path) -> None:
    """Put the trained parts together as a `WanPipeline` folder."""
    model = Conditioned(vocabulary())
    step = read_checkpoint(CHECKPOINT, model, *optimizers_of(model).values())
    if not step:
        raise ValueError(f"{CHECKPOINT} is missing: run `python -m toyworld pretrain transformer` first")
    read_averaged(step, model)
    save_pipeline(out, trained_vae(), model.transformer, model.text, model.tokenizer, takes_first_frame=True)
    (out / "training.json").write_text(json.dumps({"step": step, "steps": STEPS}) + "\n")
    log.info("the model, of step %d of %d, is in %s; next: pretrain readme", step, STEPS, out)
