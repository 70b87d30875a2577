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
from motive.models.lora import FILES, add_lora, save_lora
from motive.params import Params
from motive.store.checkpoints import read_checkpoint, write_checkpoint
from motive.store.files import read_table, write_table
from motive.store.recipes import Recipe
from motive.store.shards import locate, read_clip_tensors, read_manifest

log = logging.getLogger("motive")
OUT = Path("data/finetuning")
LATENTS = Path("data/pool/latents")
VERSION = 1  # raise it when the same recipe comes to mean another training


def run(params: Params) -> None:
    """Fine-tune on data/curation/subset.parquet; a killed run goes on at its last checkpoint."""
    from accelerate import PartialState

    train(params, read_table(Path("data/curation/subset.parquet"))["clip_id"].tolist(), OUT)
    if PartialState().is_main_process:  # it alone writes
        _check(params.finetuning.steps)
    log.info("finetuning: look at %s; next: motive evaluation", OUT)


def train(params: Params, clip_ids: list[str], out: Path) -> None:
    """Fine-tune on these pool clips and write the model, its losses and what was done to a folder.

    Raises:
        ValueError: a clip has no latent, or the loss is no number.
    """
    from accelerate import Accelerator

    f, model, max_tokens = params.finetuning, params.model, params.latents.max_tokens
    clip_ids, where = sorted(clip_ids), locate(LATENTS)
    if missing := [clip_id for clip_id in clip_ids if clip_id not in where]:
        raise ValueError(f"subset.parquet: clip {missing[0]} has no latent in {LATENTS}; run `dvc repro`")

    # The model: full training keeps its master weights in float32, a LoRA leaves the backbone as it is.
    accelerator = Accelerator(mixed_precision=f.mixed_precision, cpu=model.device == "cpu")
    device, num_processes = accelerator.device, accelerator.num_processes
    torch.set_num_threads(1)  # sums in one order: the same bytes on every run
    dtype = "float32" if f.method == "full" else model.dtype
    transformer: Any = backbones.load_transformer(model.path, dtype, str(device))
    if f.method == "lora":
        add_lora(transformer, f.lora_rank, f.seed)
    if f.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    trained = [p for p in transformer.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.AdamW(trained, lr=f.learning_rate, weight_decay=f.weight_decay)
    millions = [sum(p.numel() for p in ps) / 1e6 for ps in (trained, transformer.parameters())]
    log.info("finetuning: %s, %.2f M of %.2f M parameters on %d clips", f.method, *millions, len(clip_ids))

    # Where an earlier run of the same recipe stopped.
    settings = {**f.model_dump(exclude={"checkpointing_steps"}), "clip_ids": clip_ids}
    settings |= {"dtype": model.dtype, "max_tokens": max_tokens, "num_processes": num_processes}
    weights = model_folder.fingerprint(model.path, "transformer")
    inputs = {"latents": read_manifest(LATENTS)["digest"], "model": weights}
    recipe = Recipe("finetuning", VERSION, settings, inputs)
    checkpoint, history = recipe.store / "checkpoint.safetensors", recipe.store / "losses.parquet"
    start = read_checkpoint(checkpoint, transformer, optimizer)
    losses: list[Any] = read_table(history).head(start).to_dict("records") if start else []
    wrapped, optimizer = accelerator.prepare(transformer.train(), optimizer)
    log.info("finetuning: starts at step %d; what is done is kept in %s", start, recipe.store)

    def predict(z: Tensor, sigma: Tensor) -> Tensor:
        return backbones.velocity(wrapped, z, sigma, text, params.clips.fps)

    # Step k draws its clips, noise and noise levels from (seed, k): a resumed run is the unbroken one.
    progress = tqdm(range(start, f.steps), initial=start, total=f.steps, desc="finetuning", unit="step")
    for step in progress:
        rows = batch_rows(step, f.batch_size * num_processes, len(clip_ids), f.seed)
        chosen = [clip_ids[row] for row in rows[accelerator.process_index :: num_processes]]
        batch = dict(read_clip_tensors(where, chosen))
        z = torch.stack([batch[clip_id]["latent"] for clip_id in chosen]).float().to(device)
        text = backbones.padded([batch[clip_id]["text"].float() for clip_id in chosen], max_tokens).to(device)
        rng = rng_of("finetuning", f.seed, step, accelerator.process_index)
        with accelerator.autocast():
            loss = training_loss(predict, z, f.shift, rng)
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
        (out / "training.json").write_text(recipe.to_json() + "\n")


def _write(transformer: Any, method: str, dtype: str, out: Path) -> None:
    """Write the model aside and rename; one of the other method goes, or it would be taken for this one."""
    shutil.rmtree(aside := out / ".model", ignore_errors=True)
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


def _check(num_steps: int) -> None:
    from motive.checks import check

    check("finetuning", read_table(path := OUT / "losses.parquet"), num_steps=num_steps, file=path)
