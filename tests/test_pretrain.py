"""The recipe of models/tiny-wan, step by step on a handful of clips: it resumes, and what it makes loads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from motive.models import backbones
from toyworld.pretrain import decoder, latents, quality, readme, transformer
from toyworld.pretrain.frames import NUM_FRAMES, draw_training_clips
from toyworld.pretrain.muon import Muon, orthogonalised
from toyworld.tiny_wan import LATENT_CHANNELS

pytestmark = pytest.mark.slow
NUM_CLIPS = 12
OUT = Path("model")


@pytest.fixture(scope="module", autouse=True)
def made(tmp_path_factory):
    """A folder in which the recipe has come as far as the latents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("pretrain"))
        patch.setattr(latents, "NUM_CLIPS", NUM_CLIPS)
        patch.setattr(latents, "NUM_CODE_CLIPS", NUM_CLIPS)
        patch.setattr(decoder, "NUM_CLIPS", 4)
        patch.setattr(decoder, "KEEP_EVERY", 2)
        patch.setattr(transformer, "KEEP_EVERY", 2)
        patch.setattr(transformer, "FRAMES", 9)
        latents.fit_code()
        latents.encode_latents()
        yield


def test_latents_are_those_of_the_vae_and_of_variance_one():
    kept = load_file(latents.LATENTS)
    z = kept["latent"].float()
    assert z.shape == (NUM_CLIPS, LATENT_CHANNELS, NUM_FRAMES, 16, 16)
    torch.testing.assert_close(z.mean((0, 2, 3, 4)), torch.zeros(LATENT_CHANNELS), atol=1e-3, rtol=0)
    assert float(z.var((0, 2, 3, 4)).mean()) == pytest.approx(1, abs=1e-2)
    vae = decoder.code_vae().eval()
    frames, _ = next(draw_training_clips(1, latents.SEED))
    torch.testing.assert_close(z[0], backbones.encode_video(vae, frames), atol=0.02, rtol=0)


class Killed(BaseException):
    """Stands for a kill after a checkpoint was written."""


def test_a_frame_is_decoded_from_its_own_latent_alone():
    decoder.train_decoder(steps=2)
    vae = decoder.trained_vae()
    z = torch.randn((1, LATENT_CHANNELS, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = vae.decode(z).sample
        alone = torch.cat([vae.decode(z[:, :, [f]]).sample for f in range(3)], 2)
    torch.testing.assert_close(together, alone)
    assert together.std() > 0.01


def test_a_single_frame_is_decoded_by_the_last_moment_of_the_kernels():
    vae = decoder.code_vae()
    z = torch.randn((2, LATENT_CHANNELS, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = decoder.decoded(vae, z)
        decoder.decode_single_frames(vae)
        torch.testing.assert_close(decoder.decoded(vae, z), whole)


def train_decoder(steps: int) -> list[Path]:
    decoder.train_decoder(steps=steps)
    return [decoder.CHECKPOINT]


def train_transformer(steps: int) -> list[Path]:
    transformer.train_transformer(steps=steps)
    return [transformer.CHECKPOINT, transformer.averaged_file(4)]


@pytest.mark.parametrize(("module", "train"), [(decoder, train_decoder), (transformer, train_transformer)])
def test_a_killed_training_goes_on_to_the_same_bytes(module, train, monkeypatch):
    module.CHECKPOINT.unlink(missing_ok=True)
    unbroken = [path.read_bytes() for path in train(4)]
    module.CHECKPOINT.unlink()

    def write_and_die(*arguments):
        write(*arguments)
        raise Killed

    write = module.write_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_checkpoint", write_and_die)
        with pytest.raises(Killed):
            train(4)
    assert int(load_file(module.CHECKPOINT)["step"]) == 2
    assert [path.read_bytes() for path in train(4)] == unbroken


def test_the_late_weights_stay():
    transformer.train_transformer(steps=4)
    kept = {path.name for path in latents.WORK.glob("averaged-*")}
    assert kept == {transformer.averaged_file(step).name for step in transformer.late_steps(4)}


def test_every_parameter_has_one_optimizer_and_every_step_moves_it():
    model = transformer.Conditioned(["a", "ball"])
    optimizers = transformer.optimizers_of(model).values()
    held = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    assert len(held) == len({*held}) == len(list(model.parameters()))
    muon = {p for group in transformer.optimizers_of(model)["muon"].param_groups for p in group["params"]}
    assert muon == {p for p in model.transformer.blocks.parameters() if p.ndim == 2}


@pytest.mark.parametrize("shape", [(3, 16, 32), (2, 32, 16), (1, 16, 16)])
def test_orthogonalised_matrices_have_singular_values_near_one_and_the_same_directions(shape):
    G = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonalised(G)
    values = torch.linalg.svdvals(made)
    assert (values > 0.5).all()
    assert (values < 1.3).all()
    U, _, V = torch.linalg.svd(G, full_matrices=False)
    inner = U.mT @ made @ V.mT
    torch.testing.assert_close(
        inner, torch.diag_embed(torch.diagonal(inner, dim1=1, dim2=2)), atol=1e-3, rtol=0
    )


def test_muon_goes_where_torchs_own_goes():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(8, 12)), torch.nn.Parameter(torch.randn(12, 8))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    optimizers = [
        Muon(ours, 0.1, weight_decay=0.05),
        torch.optim.Muon(theirs, 0.1, weight_decay=0.05),  # type: ignore[attr-defined]
    ]
    for step in range(3):
        torch.manual_seed(step)
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(ours, theirs, strict=True):
        assert float((p - q).detach().abs().max()) < 0.02  # theirs computes in bfloat16


def test_windows_are_drawn_by_step_alone_and_fill_the_budget():
    seen = [transformer.window_at(step, 400, 50) for step in range(400)]
    lengths = [window.frames.stop - window.frames.start for window in seen]
    assert {*lengths} == {*transformer.LENGTHS}
    for window, length in zip(seen, lengths, strict=True):
        assert len(window.rows) == max(1, transformer.FRAMES // length)
        assert window.frames.stop <= NUM_FRAMES
        assert length == 1 or window.frames.start == 0
        assert not (window.first_frame and length == 1)
    again = transformer.window_at(7, 400, 50)
    assert again.rows.equal(seen[7].rows)
    assert again[1:] == seen[7][1:]
    change = int(400 * transformer.LATE_FROM)
    assert np.mean([length == 9 for length in lengths[:change]]) < 0.4  # short windows first
    assert np.mean([length == 9 for length in lengths[change:]]) > 0.6
    given = [window.first_frame for window, length in zip(seen, lengths, strict=True) if length > 1]
    assert np.mean(given) == pytest.approx(transformer.FIRST_FRAME_SHARE, abs=0.1)


def test_the_rate_rises_stays_and_falls_to_zero():
    rates = [transformer.rate_at(step, 4000, 1.0) for step in range(4000)]
    assert rates[0] < 0.01
    assert {*rates[transformer.WARMUP : int(transformer.FALL_FROM * 4000)]} == {1.0}
    assert rates[-1] < 0.01
    # A longer training is the same one until the shorter begins to fall.
    assert rates[:3000] == [transformer.rate_at(step, 6000, 1.0) for step in range(3000)]


def test_the_package_is_a_pipeline_that_draws_and_its_page_has_its_numbers(monkeypatch):
    decoder.train_decoder(steps=2)
    transformer.train_transformer(steps=4)
    transformer.package(OUT)
    statistics, vae = load_file(latents.LATENTS), backbones.load_vae(str(OUT), "cpu")
    np.testing.assert_allclose(vae.config.latents_mean, statistics["mean"].numpy(), rtol=1e-6)
    monkeypatch.setattr(readme, "NUM_UNSEEN", 10)
    monkeypatch.setattr(quality, "STEPS", 1)
    monkeypatch.setattr(readme, "judge_auc", lambda: {"judge_auc": 0.5})
    readme.write_readme(OUT)
    numbers = json.loads((OUT / "measures.json").read_text())
    assert numbers["step"] == 4
    assert numbers["real_holds"] >= 0.8
    assert numbers["text_holds"] < numbers["real_holds"]  # of a model that has learned nothing
    text = (OUT / "README.md").read_text()
    assert f"{numbers['vae_moving_psnr']:.1f}" in text
    for image in ("samples.png", "falls.png"):
        assert (OUT / image).read_bytes().startswith(b"\x89PNG")
