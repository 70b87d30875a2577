"""The chosen clips -> a fine-tuned transformer (whole, or a LoRA beside it). Ordinary loss: the mask is not used here."""

import logging
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from motive.adapters import backbones
from motive.adapters.lora import add_lora, save_lora
from motive.formats.checkpoints import read_checkpoint, write_checkpoint
from motive.formats.shards import Recipe, locate, read_clip_tensors, read_manifest
from motive.formats.tables import read_table, write_table
from motive.maths.training import batch_rows, rng_of, training_loss
from motive.params import Params

log = logging.getLogger("motive")
OUT = Path("data/finetuning")
LATENTS = Path("data/pool/latents")


def run(params: Params) -> None:
    """Fine-tune on data/curation/subset.parquet; a killed run goes on at its last checkpoint, to the same bytes."""
    clip_ids = read_table(Path("data/curation/subset.parquet"))["clip_id"].tolist()
    train(params, clip_ids, OUT)
    log.info("finetuning: the tuned model is in %s; next: motive evaluation", OUT)


def train(params: Params, clip_ids: list[str], out: Path) -> None:
    """Fine-tune on these pool clips and write the model, its losses and what was done to a folder."""
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    f, model = params.finetuning, params.model
    clip_ids = sorted(clip_ids)
    where = locate(LATENTS)
    if missing := [clip_id for clip_id in clip_ids if clip_id not in where]:
        raise ValueError(f"subset.parquet: clip {missing[0]} has no latent in {LATENTS}; run `dvc repro`")

    # The model: full training keeps its master weights in float32, a LoRA leaves the backbone as it is.
    accelerator = Accelerator(mixed_precision=f.mixed_precision, cpu=model.device == "cpu")
    set_seed(f.seed)
    torch.set_num_threads(1)  # sums in one order: the same bytes on every run
    transformer = backbones.load_transformer(model.path, "float32" if f.method == "full" else model.dtype, model.device)
    if f.method == "lora":
        add_lora(transformer, f.lora_rank, f.seed)
    if f.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    trained = [p for p in transformer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=f.learning_rate, weight_decay=f.weight_decay)
    log.info(
        "finetuning: %s, %.2f M of %.2f M parameters, %d clips, %d steps of %d on %d processes",
        f.method, sum(p.numel() for p in trained) / 1e6, sum(p.numel() for p in transformer.parameters()) / 1e6,
        len(clip_ids), f.steps, f.batch_size, accelerator.num_processes,
    )  # fmt: skip

    # Where an earlier run of the same recipe stopped.
    settings = {**f.model_dump(), "dtype": model.dtype, "max_tokens": params.latents.max_tokens, "clip_ids": clip_ids,
                "num_processes": accelerator.num_processes}  # fmt: skip
    inputs = {"model": backbones.fingerprint(model.path, "transformer"), "latents": read_manifest(LATENTS)["digest"]}
    recipe = Recipe("finetuning", 1, settings, inputs)
    checkpoint, history = recipe.store / "checkpoint.safetensors", recipe.store / "losses.parquet"
    start = read_checkpoint(checkpoint, transformer, optimizer)
    losses = read_table(history).head(start).to_dict("records") if start else []
    model_, optimizer = accelerator.prepare(transformer, optimizer)

    # Step k draws its clips, noise and noise levels from (seed, k): a resumed run is the unbroken one.
    progress = tqdm(range(start, f.steps), initial=start, total=f.steps, desc="finetuning", unit="step")
    model_.train()
    for step in progress:
        rows = batch_rows(step, f.batch_size * accelerator.num_processes, len(clip_ids), f.seed)
        rows = rows[accelerator.process_index :: accelerator.num_processes]
        batch = dict(read_clip_tensors(where, [clip_ids[row] for row in rows]))
        clips = [batch[clip_ids[row]] for row in rows]
        z = torch.stack([clip["latent"] for clip in clips]).float().to(accelerator.device)
        text = backbones.padded([clip["text"].float() for clip in clips], params.latents.max_tokens)
        text = text.to(accelerator.device)
        with accelerator.autocast():
            loss = training_loss(
                lambda x, sigma, text=text: backbones.velocity(model_, x, sigma, text),
                z, f.shift, rng_of("finetuning", f.seed, step, accelerator.process_index),
            )  # fmt: skip
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, f.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append({"step": step, "loss": float(loss.detach()), "learning_rate": f.learning_rate})
        if not torch.isfinite(loss):
            raise ValueError(f"finetuning: the loss is not finite at step {step}; lower finetuning.learning_rate")
        progress.set_postfix(loss=f"{losses[-1]['loss']:.4f}")
        if accelerator.is_main_process and (step + 1) % f.checkpointing_steps == 0:
            write_table(history, pd.DataFrame(losses))
            write_checkpoint(checkpoint, step + 1, transformer, optimizer.optimizer)

    # The result, by the main process alone.
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    out.mkdir(parents=True, exist_ok=True)
    if f.method == "full":
        transformer.to(backbones.torch_dtype(model.dtype)).save_pretrained(out / "transformer")
    else:
        save_lora(transformer, out)
    write_table(out / "losses.parquet", pd.DataFrame(losses))
    (out / "training.json").write_text(recipe.to_json() + "\n")
