"""The chosen clips -> a fine-tuned transformer, whole or a LoRA. Ordinary loss: the mask is not used here."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from motive.maths.training import batch_rows, rng_of, training_loss
from motive.models import backbones
from motive.models import folder as model_folder
from motive.models.first_frame import first_frame_of, is_clean
from motive.models.lora import FILES, add_lora, save_lora
from motive.params import Finetuning, Latents, Model
from motive.store.checkpoints import read_checkpoint, write_checkpoint
from motive.store.files import read_table, write_table, write_text
from motive.store.layout import stage_folder
from motive.store.recipes import Recipe
from motive.store.shards import locate, read_clip_tensors, read_manifest

log = logging.getLogger("motive")
OUT = stage_folder("finetuning")
SUBSET = stage_folder("curation") / "subset.parquet"
LATENTS = stage_folder("latents", "pool")
VERSION = 1  # raise it when the same recipe comes to mean another training


def run(*, finetuning: Finetuning, model: Model, latents: Latents) -> None:
    """Fine-tune on data/curation/subset.parquet; a killed run goes on at its last checkpoint."""
    from accelerate import PartialState

    train(
        read_table(SUBSET)["clip_id"].tolist(),
        OUT,
        finetuning=finetuning,
        model=model,
        max_tokens=latents.max_tokens,
        fps=read_manifest(LATENTS)["params"]["clips"]["fps"],
    )
    if PartialState().is_main_process:  # it alone writes
        from motive.checks import check

        losses = OUT / "losses.parquet"
        check("finetuning", read_table(losses), num_steps=finetuning.steps, file=losses)
    log.info("finetuning: look at %s; next: motive evaluation", OUT)


def train(
    clip_ids: list[str],
    out: Path,
    *,
    finetuning: Finetuning,
    model: Model,
    max_tokens: int,
    fps: float,
) -> None:
    """Fine-tune on these pool clips and write the model, its losses and what was done to a folder.

    Args:
        clip_ids: in any order; each has a latent and a text in data/pool/latents.
        out: the folder.
        finetuning: how to train.
        model: the backbone.
        max_tokens: texts are padded to this length.
        fps: of the clips, which some backbones are told.

    Raises:
        ValueError: a clip has no latent, or the loss is no number.
    """
    from accelerate import Accelerator

    f = finetuning
    clip_ids = sorted(clip_ids)
    shard_of = locate(LATENTS)
    for clip_id in clip_ids:
        if clip_id not in shard_of:
            raise ValueError(f"subset.parquet: clip {clip_id} has no latent in {LATENTS}; run `dvc repro`")

    # The model: full training keeps its master weights in float32, a LoRA leaves the backbone as it is.
    accelerator = Accelerator(mixed_precision=f.mixed_precision, cpu=model.device == "cpu")
    device = accelerator.device
    num_processes = accelerator.num_processes
    torch.set_num_threads(1)  # sums in one order: the same bytes on every run
    dtype = "float32" if f.method == "full" else model.dtype
    transformer: Any = backbones.load_transformer(model.path, dtype, str(device))
    if f.method == "lora":
        add_lora(transformer, f.lora_rank, f.seed)
    if f.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    trained = [p for p in transformer.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.AdamW(trained, lr=f.learning_rate, weight_decay=f.weight_decay)
    log.info(
        "finetuning: %s, %.2f M of %.2f M parameters on %d clips",
        f.method,
        sum(p.numel() for p in trained) / 1e6,
        sum(p.numel() for p in transformer.parameters()) / 1e6,
        len(clip_ids),
    )

    # Where an earlier run of the same recipe stopped.
    settings = {
        **f.model_dump(exclude={"checkpointing_steps"}),
        "clip_ids": clip_ids,
        "dtype": model.dtype,
        "max_tokens": max_tokens,
        "num_processes": num_processes,
        "condition": model.condition,
    }
    inputs = {
        "latents": read_manifest(LATENTS)["digest"],
        "model": model_folder.fingerprint(model.path, "transformer"),
    }
    recipe = Recipe("finetuning", VERSION, settings, inputs)
    checkpoint = recipe.store / "checkpoint.safetensors"
    history = recipe.store / "losses.parquet"
    start = read_checkpoint(checkpoint, transformer, optimizer)
    losses: list[Any] = read_table(history).head(start).to_dict("records") if start else []
    wrapped, optimizer = accelerator.prepare(transformer.train(), optimizer)
    log.info("finetuning: starts at step %d; what is done is kept in %s", start, recipe.store)

    def predict(z: Tensor, sigma: Tensor) -> Tensor:
        return backbones.velocity(wrapped, z, sigma, text, fps, given)

    # Step k draws its clips, noise and noise levels from (seed, k): a resumed run is the unbroken one.
    progress = tqdm(range(start, f.steps), initial=start, total=f.steps, desc="finetuning", unit="step")
    for step in progress:
        rows = batch_rows(step, f.batch_size * num_processes, len(clip_ids), f.seed)
        chosen = [clip_ids[row] for row in rows[accelerator.process_index :: num_processes]]
        batch = dict(read_clip_tensors(shard_of, chosen))
        z = torch.stack([batch[clip_id]["latent"] for clip_id in chosen]).float().to(device)
        text = backbones.padded([batch[clip_id]["text"].float() for clip_id in chosen], max_tokens).to(device)
        given = first_frame_of([batch[clip_id] for clip_id in chosen], model.condition, str(device))
        if is_clean(given) and not is_given(step, f):
            given = None
        rng = rng_of("finetuning", f.seed, step, accelerator.process_index)
        with accelerator.autocast():
            loss = training_loss(predict, z, f.shift, rng, is_clean(given))
        mean: Any = accelerator.reduce(loss.detach(), "mean")  # of all processes: if one must stop, all do
        if not torch.isfinite(mean):
            raise ValueError(f"the loss is not finite at step {step}: lower finetuning.learning_rate")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, f.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append({"step": step, "loss": float(mean), "learning_rate": f.learning_rate})
        progress.set_postfix(loss=f"{losses[-1]['loss']:.4f}")
        if accelerator.is_main_process and (step + 1 == f.steps or (step + 1) % f.checkpointing_steps == 0):
            write_table(history, pd.DataFrame(losses))
            write_checkpoint(checkpoint, step + 1, transformer, optimizer.optimizer)

    # The result, by the main process alone.
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _write(transformer, f.method, model.dtype, out)
        write_table(out / "losses.parquet", pd.DataFrame(losses))
        write_text(out / "training.json", recipe.to_json() + "\n")


def is_given(step: int, finetuning: Finetuning) -> bool:
    """Whether a step is given the first frame: of a model that can do without, in a share of the steps."""
    rng = rng_of("first frame", finetuning.seed, step)
    return bool(torch.rand((), generator=rng) < finetuning.first_frame_share)


def _write(transformer: Any, method: str, dtype: str, out: Path) -> None:
    """Write the model aside and rename; one of the other method goes, or it would be taken for this one."""
    aside = out / ".model"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    if method == "full":
        backbones.save_transformer(transformer, dtype, aside)
    else:
        save_lora(transformer, aside)
    for name, weights in FILES.items():
        shutil.rmtree(out / name, ignore_errors=True)
        (out / weights).unlink(missing_ok=True)
    for path in aside.rglob("*.safetensors"):  # diffusers lets nobody but the owner read them
        path.chmod(aside.stat().st_mode & 0o666)
    for path in aside.iterdir():
        os.replace(path, out / path.name)
    aside.rmdir()
