"""The recipe of models/tiny-wan, step by step on a handful of clips: it resumes, and what it makes loads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from motive.models import backbones
from toyworld.pretrain import readme, transformer, vae
from toyworld.pretrain.frames import NUM_FRAMES

# torch says once a process that it normalises bfloat16 features with float32 weights by its slower way
pytestmark = [pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight"), pytest.mark.slow]
NUM_CLIPS = 6
OUT = Path("model")


@pytest.fixture(scope="module", autouse=True)
def made(tmp_path_factory):
    """A folder in which the recipe has come as far as the latents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("pretrain"))
        for module in (vae, transformer):
            patch.setattr(module, "NUM_CLIPS", NUM_CLIPS)
            patch.setattr(module, "KEEP_EVERY", 2)
        patch.setattr(vae, "BATCH", 1)
        patch.setattr(transformer, "FRAMES", 13)
        patch.setattr(transformer, "THREADS", 1)
        vae.train_vae(steps=2)
        transformer.encode_latents()
        yield


def test_latents_are_normalised_over_the_clips():
    kept = load_file(transformer.LATENTS)
    z = kept["latent"].float()
    assert z.shape == (NUM_CLIPS, 8, NUM_FRAMES, 16, 16)
    torch.testing.assert_close(z.mean((0, 2, 3, 4)), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3, 4)), torch.ones(8), atol=1e-3, rtol=0)


class Killed(BaseException):
    """Stands for a kill after a checkpoint was written."""


@pytest.mark.parametrize(
    ("module", "train"), [(vae, vae.train_vae), (transformer, transformer.train_transformer)]
)
def test_a_killed_training_goes_on_to_the_same_bytes(module, train, monkeypatch):
    module.CHECKPOINT.unlink(missing_ok=True)
    train(steps=4)
    unbroken = module.CHECKPOINT.read_bytes()
    module.CHECKPOINT.unlink()

    def write_and_die(*arguments):
        write(*arguments)
        raise Killed

    write = module.write_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_checkpoint", write_and_die)
        with pytest.raises(Killed):
            train(steps=4)
    assert int(load_file(module.CHECKPOINT)["step"]) == 2
    train(steps=4)
    assert module.CHECKPOINT.read_bytes() == unbroken


def test_every_parameter_has_one_optimizer_and_every_step_moves_it():
    model = transformer.Conditioned(["a", "ball"])
    optimizers = transformer.optimizers_of(model).values()
    held = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    assert len(held) == len({*held}) == len(list(model.parameters()))
    muon = {p for group in transformer.optimizers_of(model)["muon"].param_groups for p in group["params"]}
    assert muon == {p for p in model.transformer.blocks.parameters() if p.ndim == 2}


def test_windows_are_drawn_by_step_alone_and_fill_the_budget():
    seen = [transformer.window_at(step, 100, 50) for step in range(100)]
    lengths = [frames.stop - frames.start for _, frames in seen]
    assert {*lengths} == {*transformer.LENGTHS}
    for (rows, frames), length in zip(seen, lengths, strict=True):
        assert len(rows) == transformer.FRAMES // length
        assert 0 <= frames.start < frames.stop <= 13
    again = transformer.window_at(7, 100, 50)
    assert again[0].equal(seen[7][0])
    assert again[1] == seen[7][1]
    change = int(100 * transformer.LATE_FROM)
    early = np.mean([length == 1 for length in lengths[:change]])
    late = np.mean([length == 1 for length in lengths[change:]])
    assert early > 0.5 > late  # looks first


def test_the_package_is_a_pipeline_that_draws_and_its_page_has_its_numbers(monkeypatch):
    transformer.train_transformer(steps=4)
    transformer.package(OUT)
    statistics, vae_ = load_file(transformer.LATENTS), backbones.load_vae(str(OUT), "cpu")
    np.testing.assert_allclose(vae_.config.latents_mean, statistics["mean"].numpy(), rtol=1e-6)
    monkeypatch.setattr(readme, "NUM_UNSEEN", 10)
    monkeypatch.setattr(readme, "STEPS", 1)
    readme.write_readme(OUT)
    numbers = json.loads((OUT / "measures.json").read_text())
    assert numbers["step"] == 4
    text = (OUT / "README.md").read_text()
    assert f"{numbers['vae_moving_psnr']:.1f}" in text
    assert f"{numbers['heldout_denoising_loss']:.3f}" in text
    assert (OUT / "samples.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("step", "needs"),
    [(transformer.encode_latents, "vae"), (transformer.train_transformer, "latents")],
)
def test_a_step_says_which_step_comes_before(step, needs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"run `python -m toyworld pretrain {needs}` first"):
        step()
