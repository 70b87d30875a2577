"""From chosen clips to a tuned model that a killed run does not lose."""

import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from motive.checks import CheckFailed
from motive.clips.table import read_clips
from motive.maths.training import batch_rows, rng_of, training_loss
from motive.models import backbones, tuned
from motive.params import Params
from motive.stages import finetuning, run_stage, sketches
from motive.store import checkpoints
from motive.store.files import read_table, write_table
from testing.model_project import CPU, OUT, POOL, bytes_of, forget_models, params_of, tensors_of
from testing.tiny import (
    ROOT,
    SHAPE,
)

pytestmark = pytest.mark.slow

# ---- checkpoints


def test_a_checkpoint_brings_back_weights_and_moments_and_anybody_may_read_it(tmp_path):
    def step(model, optimizer) -> None:
        model(torch.ones(1, 3)).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    def fresh(seed: int):
        torch.manual_seed(seed)
        model = torch.nn.Linear(3, 2)
        model.bias.requires_grad_(False)
        return model, torch.optim.AdamW([model.weight], lr=0.1)

    path, (model, optimizer) = tmp_path / "a/state.safetensors", fresh(0)
    assert checkpoints.read_checkpoint(path, model, optimizer) == 0
    step(model, optimizer)
    checkpoints.write_checkpoint(path, 1, model, optimizer)
    again, its_optimizer = fresh(1)
    again.bias.data.copy_(model.bias)
    assert checkpoints.read_checkpoint(path, again, its_optimizer) == 1
    for each in ((model, optimizer), (again, its_optimizer)):
        step(*each)
    assert torch.equal(model.weight, again.weight)
    (plain := tmp_path / "plain").touch()
    assert path.stat().st_mode == plain.stat().st_mode
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# ---- fine-tuning


def train(params: Params, clip_ids: list[str]) -> None:
    finetuning.train(
        clip_ids,
        OUT,
        finetuning=params.finetuning,
        model=params.model,
        max_tokens=params.latents.max_tokens,
        fps=params.clips.fps,
    )


def tune(**changes: Any) -> None:
    train(params_of(finetuning=changes), read_clips("pool")["clip_id"].tolist()[:3])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_loss_falls_on_clips_that_are_seen_often(copy, method):
    tune(method=method, steps=60, batch_size=3, learning_rate=2e-2)
    table = read_table(OUT / "losses.parquet")
    assert table["step"].tolist() == list(range(60))
    losses = table["loss"].to_numpy(float)
    assert losses[-15:].mean() < 0.9 * losses[:15].mean()


def velocity_of(model: Any) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    z, text = torch.randn(1, *SHAPE, generator=rng), torch.randn(1, 8, 64, generator=rng)
    with torch.no_grad():
        return backbones.velocity(model.eval(), z, torch.tensor([0.5]), text)


def test_full_training_writes_a_transformer_that_loads_like_the_base(copy):
    tune(method="full")
    base = velocity_of(backbones.load_transformer(*CPU))
    trained = velocity_of(backbones.load_transformer(str(OUT), "float32", "cpu"))
    assert not torch.allclose(base, trained, atol=1e-3)
    weights = load_file(OUT / "transformer/diffusion_pytorch_model.safetensors")
    assert set(weights) == set(dict(backbones.load_transformer(*CPU).named_parameters()))
    assert not (OUT / "pytorch_lora_weights.safetensors").exists()
    assert str(copy) not in "".join(path.read_text() for path in OUT.rglob("*.json"))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_in_bfloat16_too_what_is_written_is_what_is_loaded(copy, method):
    run_stage(sketches, params_of(model={"dtype": "bfloat16"}), "pool")
    made = {one: clip["sketch"] for one, clip in tensors_of(POOL / "sketches").items()}
    forget_models()
    run_stage(sketches, params_of(), "pool")
    cosines = [
        float((made[one] * clip["sketch"]).sum()) for one, clip in tensors_of(POOL / "sketches").items()
    ]
    assert min(cosines[:-1]) > 0.95
    clip_ids = read_clips("pool")["clip_id"].tolist()
    train(params_of(model={"dtype": "bfloat16"}, finetuning={"method": method}), clip_ids)
    model = ("model", "bfloat16", "cpu")
    loaded: Any = tuned.frozen_transformer(tuned.tuned_model(*model, str(OUT)))
    base = backbones.load_transformer(*model)
    assert {p.dtype for p in base.parameters()} == {torch.float32, torch.bfloat16}
    assert not torch.allclose(velocity_of(loaded), velocity_of(base), atol=1e-2)
    if method == "full":
        types = {name: p.dtype for name, p in base.named_parameters()}
        assert {
            n: t.dtype for n, t in load_file(OUT / "transformer/diffusion_pytorch_model.safetensors").items()
        } == types


def test_a_lora_loads_here_and_in_the_pipeline_and_speaks_only_when_trained(copy):
    base = velocity_of(backbones.load_transformer(*CPU))
    tune(method="full", steps=1)
    for rate, changed in ((1e-12, False), (1e-2, True)):
        tune(method="lora", lora_rank=4, learning_rate=rate)
        assert not (OUT / "transformer").exists()  # of the other method: it would be taken for the tuned one
        ours = velocity_of(tuned.frozen_transformer(tuned.tuned_model(*CPU, str(OUT))))
        pipeline = backbones.load_pipeline(*CPU)
        pipeline.load_lora_weights(str(OUT), weight_name="pytorch_lora_weights.safetensors")
        torch.testing.assert_close(velocity_of(pipeline.transformer), ours)
        assert torch.allclose(ours, base, atol=1e-5) != changed


def test_anybody_may_read_the_model(copy):
    (plain := copy / "plain").touch()
    for method in ("full", "lora"):
        tune(method=method, steps=1)
        modes = {path.stat().st_mode for path in OUT.rglob("*") if path.is_file()}
        assert modes == {plain.stat().st_mode}


KILLED = """
import os, signal, sys
from motive.store import checkpoints
from motive.stages import finetuning
from tests.test_finetuning import tune

def write_and_die(*arguments):
    checkpoints.write_checkpoint(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

finetuning.write_checkpoint = write_and_die
tune(method=sys.argv[1])
"""


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_killed_run_goes_on_to_the_same_bytes(copy, method, caplog):
    tune(method=method)
    unbroken = bytes_of(OUT)
    shutil.rmtree(OUT)
    shutil.rmtree(".motive/work/finetuning")
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), str(ROOT / "tests")])
    command = [sys.executable, "-c", KILLED, method]
    dead = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False)
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()[-2000:]
    assert not OUT.exists()
    caplog.set_level("INFO")
    tune(method=method)
    assert "starts at step 3;" in caplog.text
    assert bytes_of(OUT) == unbroken


def test_how_often_it_is_kept_changes_no_result(copy):
    tune(steps=4)
    before = bytes_of(OUT)
    shutil.rmtree(".motive/work/finetuning")
    tune(steps=4, checkpointing_steps=1)
    assert bytes_of(OUT) == before


LAUNCHED = """
from motive.stages import finetuning, run_stage
from testing.model_project import params_of

run_stage(finetuning, params_of())
"""


def test_two_processes_of_accelerate_train_one_model(copy):
    chosen = choose(3)
    (copy / "launched.py").write_text(LAUNCHED)
    config = ["--config_file", str(ROOT / "deploy/accelerate.yaml"), "--num_processes", "2"]
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", *config]
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [*command, "--main_process_port", "0", "launched.py"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    files = {str(file.relative_to(OUT)) for file in OUT.rglob("*") if file.is_file()}
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert files == {"checks.json", "losses.parquet", "training.json", "transformer/config.json", weights}
    losses = read_table(OUT / "losses.parquet")["loss"].tolist()
    assert len(losses) == 8
    assert all(map(math.isfinite, losses))
    assert losses[0] == pytest.approx(sum(first_loss(chosen, rank) for rank in range(2)) / 2, rel=1e-4)
    assert losses[7] < losses[0]


def first_loss(clip_ids: list[str], rank: int) -> float:
    """What one of two processes has at step 0, by hand: every second clip of a batch of four."""
    f, model = params_of().finetuning, backbones.load_transformer(*CPU)
    mine = [clip_ids[row] for row in batch_rows(0, 2 * f.batch_size, len(clip_ids), f.seed)[rank::2]]
    clips = tensors_of(POOL / "latents")
    z = torch.stack([clips[one]["latent"] for one in mine]).float()
    text = backbones.padded([clips[one]["text"].float() for one in mine], 8)
    with torch.no_grad():
        rng = rng_of("finetuning", f.seed, 0, rank)
        return training_loss(lambda z, s: backbones.velocity(model, z, s, text), z, f.shift, rng).item()


def choose(count: int) -> list[str]:
    """Write the subset of the first clips; their ids."""
    clip_ids = read_clips("pool")["clip_id"].tolist()[:count]
    write_table(Path("data/curation/subset.parquet"), pd.DataFrame({"clip_id": clip_ids}))
    return clip_ids


def test_a_clip_without_latent_stops_the_training_by_name(copy):
    with pytest.raises(ValueError, match="clip 0123456789abcdef has no latent"):
        train(params_of(), ["0123456789abcdef"])


def test_a_loss_that_is_no_number_stops_the_training(copy):
    with pytest.raises(ValueError, match=r"not finite at step \d+: lower finetuning.learning_rate"):
        tune(learning_rate=1e30, steps=20)
    assert not OUT.exists()


def test_a_training_that_diverged_fails_its_stage(copy):
    choose(3)
    with pytest.raises(CheckFailed, match=r"loss: values to be between.*What to do: the training diverged"):
        run_stage(finetuning, params_of(finetuning={"learning_rate": 10.0}))
    assert '"gate": "finetuning"' in (OUT / "checks.json").read_text()
