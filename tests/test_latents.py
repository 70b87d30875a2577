"""From clips to latents and text, and what a model predicts from them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from motive.clips.table import read_clips
from motive.models import backbones
from motive.models import folder as model_folder
from motive.stages import latents, run_stage
from motive.store.files import read_table
from motive.store.shards import read_manifest
from motive.video.reading import read_frames
from testing.model_project import CPU, POOL, params_of, tensors_of
from testing.tiny import (
    SHAPE,
    build_transformer,
)

pytestmark = pytest.mark.slow

# ---- what fits a model


@pytest.fixture
def config(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Changes the strides of a copied model, which no weights are needed for."""
    monkeypatch.chdir(tmp_path)

    def write(time: int, space: int) -> str:
        for component in ("vae", "transformer"):
            (tmp_path / component).mkdir(exist_ok=True)
            values = json.loads((project / "model" / component / "config.json").read_text())
            if component == "vae":
                values |= {"scale_factor_temporal": time, "scale_factor_spatial": space}
            (tmp_path / component / "config.json").write_text(json.dumps(values))
        shutil.copy(project / "model/model_index.json", tmp_path)
        return str(tmp_path)

    return write


@pytest.mark.parametrize(("time", "frames"), [(1, 13), (2, 7), (4, 4)])
def test_the_latent_has_a_frame_for_the_first_and_for_each_stride(config, time, frames):
    assert model_folder.latent_shape(config(time, 8), 13, 32, 48) == (4, frames, 4, 6)


@pytest.mark.parametrize("time", [1, 2, 4])
@pytest.mark.parametrize("num_frames", [2, 4, 12, 15])
def test_frames_that_do_not_fit_are_refused_with_a_number_that_does(config, time, num_frames):
    model = config(time, 8)
    with pytest.raises(ValueError, match=f"clips.num_frames: {num_frames} does not fit") as error:
        model_folder.latent_shape(model, num_frames, 32, 32)
    better = int(str(error.value).split()[-1])
    assert better >= 2
    model_folder.latent_shape(model, better, 32, 32)


@pytest.mark.parametrize(("height", "width", "named"), [(40, 32, "height: 40"), (32, 50, "width: 50")])
def test_sizes_that_do_not_fit_are_refused(config, height, width, named):
    with pytest.raises(ValueError, match=f"clips.{named} does not fit .* multiple of 16"):
        model_folder.latent_shape(config(4, 8), 5, height, width)


def test_what_is_no_model_is_refused_by_name(project, tmp_path):
    with pytest.raises(ValueError, match=r"model.path: nobody/nothing is no folder"):
        model_folder.latent_shape("nobody/nothing", 5, 32, 32)
    with pytest.raises(ValueError, match=r"is not a diffusers folder: .*model_index.json is missing"):
        model_folder.latent_shape(str(tmp_path), 5, 32, 32)
    with pytest.raises(ValueError, match=r"is not a diffusers folder: .*tokenizer is missing"):
        model_folder.fingerprint(str(tmp_path), "tokenizer")


def test_a_fingerprint_is_of_the_parts_it_names(copy):
    def prints() -> tuple[str, str]:
        return model_folder.fingerprint("model", "vae"), model_folder.fingerprint("model", "transformer")

    before = prints()
    build_transformer(seed=5).half().save_pretrained("model/transformer")
    assert prints()[0] == before[0]
    assert prints()[1] != before[1]


# ---- latents and text


def test_a_clip_becomes_a_latent_and_the_latent_a_clip(project):
    vae = backbones.load_vae("model", "cpu")
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    latent = backbones.encode_video(vae, frames)
    assert latent.shape == SHAPE == model_folder.latent_shape("model", 5, 32, 32)
    assert backbones.decode_video(vae, latent).shape == frames.shape
    assert torch.equal(backbones.encode_video(vae, frames), latent)  # the mode, not a draw


def test_latents_are_normalised_by_the_config_and_decoding_undoes_it(project):
    vae = backbones.load_vae("model", "cpu")
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    raw, shown = (latent := backbones.encode_video(vae, frames)), backbones.decode_video(vae, latent)
    mean, std = torch.tensor([1.0, -2.0, 0.5, 3.0]), torch.tensor([0.5, 2.0, 4.0, 0.1])
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    normalised = backbones.encode_video(vae, frames)
    want = (raw - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)
    torch.testing.assert_close(normalised, want)
    assert np.abs(backbones.decode_video(vae, normalised).astype(int) - shown).max() <= 1


@pytest.mark.parametrize(
    "caption", ["", "a red ball rolls", "a red ball rolls a blue box spins a ball falls"]
)
def test_text_is_what_the_pipeline_embeds_cut_to_its_true_length(project, caption):
    tokenizer, encoder = backbones.load_text_encoder(*CPU)
    text = backbones.encode_text(tokenizer, encoder, caption, 8)
    assert len(text) == min(8, len(caption.split()) + 1)
    whole, _ = backbones.load_pipeline(*CPU).encode_prompt(
        caption, do_classifier_free_guidance=False, max_sequence_length=8
    )
    torch.testing.assert_close(backbones.padded([text], 8), whole, atol=1e-5, rtol=1e-4)


def test_padding_adds_zeros_behind_and_cuts():
    short, long = torch.ones(2, 3), torch.full((6, 3), 2.0)
    text = backbones.padded([short, long], 4)
    assert text.shape == (2, 4, 3)
    assert text[0].sum(1).tolist() == [3, 3, 0, 0]
    assert text[1].eq(2).all()


def test_the_stage_writes_what_vae_and_encoder_make_of_each_clip(project):
    rows, vae = read_clips("pool"), backbones.load_vae("model", "cpu")
    tokenizer, encoder = backbones.load_text_encoder(*CPU)
    written = tensors_of(POOL / "latents")
    assert list(written) == rows["clip_id"].tolist()
    for row in rows.to_dict("records"):
        frames = read_frames(Path(row["source"]) / row["video"], 5, params_of().clips.fps, 32, 32, "window")
        clip = written[row["clip_id"]]
        assert torch.equal(clip["latent"], backbones.encode_video(vae, frames).half())
        text = backbones.encode_text(tokenizer, encoder, row["caption"], 8).bfloat16()
        assert torch.equal(clip["text"], text)


def test_a_broken_video_is_a_failure_and_a_lost_one_an_error(copy):
    row = read_clips("pool").iloc[2]
    (video := Path(row["source"]) / row["video"]).write_bytes(b"no video")
    shutil.rmtree(".motive/work/latents")
    run_stage(latents, params_of(), "pool")
    failures = read_table(POOL / "latents/failures.parquet")
    assert failures["clip_id"].tolist() == [row["clip_id"]]
    assert row["clip_id"] not in tensors_of(POOL / "latents")
    assert read_manifest(POOL / "latents")["num_clips"] == 4
    video.unlink()
    shutil.rmtree(".motive/work/latents")
    with pytest.raises(ValueError, match=f"{row['clip_id']}.* is missing"):
        run_stage(latents, params_of(), "pool")


def test_a_latent_that_float16_cannot_hold_is_a_failure_with_its_reason(copy):
    config = Path("model/vae/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latents_std": [1e-30] * 4}))
    run_stage(latents, params_of(), "pool")
    reasons = read_table(POOL / "latents/failures.parquet")["reason"]
    assert set(reasons) == {"the VAE's latent is not finite in float16"}


# ---- velocity


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_velocity_has_the_latents_shape_and_hears_noise_level_and_text(project, dtype):
    model = backbones.load_transformer("model", dtype, "cpu")
    rng = torch.Generator().manual_seed(0)
    z, text = torch.randn(2, *SHAPE, generator=rng), torch.randn(2, 8, 64, generator=rng)
    with torch.no_grad():
        v = backbones.velocity(model, z, torch.tensor([0.3, 0.3]), text)
        other = backbones.velocity(model, z, torch.tensor([0.3, 0.9]), text)
        untold = backbones.velocity(model, z, torch.tensor([0.3, 0.3]), 0 * text)
    assert v.shape == z.shape
    torch.testing.assert_close(v[0], other[0])
    assert not torch.allclose(v[1], other[1], atol=1e-3)
    assert not torch.allclose(v, untold, atol=1e-3)
