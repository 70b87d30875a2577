"""From clips to latents, sketches and a tuned model, on a real WanPipeline of a few thousand weights."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from motive.adapters import backbones, tuned
from motive.formats import checkpoints, shards
from motive.formats.clips import read_clips, write_clips
from motive.formats.shards import read_clip_tensors, read_manifest
from motive.formats.tables import read_table
from motive.formats.video import read_frames
from motive.maths.denoising import common_noise, motion_weighted_loss, noised, target_velocity
from motive.maths.packing import unit, unpack
from motive.maths.projection import Fastfood
from motive.params import Params
from motive.stages import finetuning, latents, sketches
from tests.test_many_workers import NEEDS_RAY
from tests.tiny import (
    ROOT,
    SHAPE,
    build_transformer,
    small_params,
    write_masks,
    write_part_of_clips,
    write_pipeline,
)

POOL, QUERIES, OUT = Path("data/pool"), Path("data/queries"), Path("data/finetuning")
DIM = 64
CPU = ("model", "float32", "cpu")


def params_of(**sections: dict) -> Params:
    short = {"learning_rate": 1e-2, "steps": 8, "batch_size": 2, "checkpointing_steps": 3}
    sections["finetuning"] = short | sections.get("finetuning", {})
    precise = {"dim": DIM, "sigmas": (0.3, 0.751), "projection": "fastfood", "storage": "float32"}
    sections["sketches"] = precise | sections.get("sketches", {})
    return small_params(**sections)


def forget_models() -> None:
    for cached in (latents._models, sketches.load, tuned.frozen_transformer, tuned.sampler):
        cached.cache_clear()


def tensors_of(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    where = shards.locate(folder)
    return dict(read_clip_tensors(where, list(where)))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Five pool clips with latents and masks: the second moves everywhere, the last nowhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("project"))
        write_pipeline(folder / "model")
        ids = write_part_of_clips("pool", ["rolls", "spins", "falls", "rests", "rolls spins"])
        rng = torch.Generator().manual_seed(0)
        masks = {one: torch.rand(SHAPE[1:], generator=rng) for one in ids}
        masks[ids[1]], masks[ids[-1]] = torch.ones(SHAPE[1:]), torch.zeros(SHAPE[1:])
        write_masks("pool", masks)
        latents.run("pool", params_of())
        forget_models()
        yield folder
    forget_models()


@pytest.fixture
def copy(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    forget_models()
    return tmp_path / "project"


# ---- what fits a model


@pytest.fixture
def config(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Changes the strides of a copied model, which no weights are needed for."""
    monkeypatch.chdir(tmp_path)

    def write(time: int, space: int) -> str:
        for part in ("vae", "transformer"):
            (tmp_path / part).mkdir(exist_ok=True)
            values = json.loads((project / "model" / part / "config.json").read_text())
            if part == "vae":
                values |= {"scale_factor_temporal": time, "scale_factor_spatial": space}
            (tmp_path / part / "config.json").write_text(json.dumps(values))
        shutil.copy(project / "model/model_index.json", tmp_path)
        return str(tmp_path)

    return write


@pytest.mark.parametrize(("time", "frames"), [(1, 13), (2, 7), (4, 4)])
def test_the_latent_has_a_frame_for_the_first_and_for_each_stride(config, time, frames):
    assert backbones.latent_shape(config(time, 8), 13, 32, 48) == (4, frames, 4, 6)


@pytest.mark.parametrize("time", [1, 2, 4])
@pytest.mark.parametrize("num_frames", [2, 4, 12, 15])
def test_frames_that_do_not_fit_are_refused_with_a_number_that_does(config, time, num_frames):
    model = config(time, 8)
    with pytest.raises(ValueError, match=f"clips.num_frames: {num_frames} does not fit") as error:
        backbones.latent_shape(model, num_frames, 32, 32)
    better = int(str(error.value).split()[-1])
    assert better >= 2
    backbones.latent_shape(model, better, 32, 32)


@pytest.mark.parametrize(("height", "width", "named"), [(40, 32, "height: 40"), (32, 50, "width: 50")])
def test_sizes_that_do_not_fit_are_refused(config, height, width, named):
    with pytest.raises(ValueError, match=f"clips.{named} does not fit .* multiple of 16"):
        backbones.latent_shape(config(4, 8), 5, height, width)


def test_what_is_no_model_is_refused_by_name(project, tmp_path):
    with pytest.raises(ValueError, match=r"model.path: nobody/nothing is no folder"):
        backbones.latent_shape("nobody/nothing", 5, 32, 32)
    with pytest.raises(ValueError, match=r"is not a diffusers folder: .*model_index.json is missing"):
        backbones.latent_shape(str(tmp_path), 5, 32, 32)
    with pytest.raises(ValueError, match=r"is not a diffusers folder: .*tokenizer is missing"):
        backbones.fingerprint(str(tmp_path), "tokenizer")


def test_a_fingerprint_is_of_the_parts_it_names(copy):
    def prints() -> tuple[str, str]:
        return backbones.fingerprint("model", "vae"), backbones.fingerprint("model", "transformer")

    before = prints()
    build_transformer(seed=5).half().save_pretrained("model/transformer")
    assert prints()[0] == before[0]
    assert prints()[1] != before[1]


# ---- latents and text


def test_a_clip_becomes_a_latent_and_the_latent_a_clip(project):
    vae = backbones.load_vae("model", "cpu")
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    latent = backbones.encode_video(vae, frames)
    assert latent.shape == SHAPE == backbones.latent_shape("model", 5, 32, 32)
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
    latents.run("pool", params_of())
    failures = read_table(POOL / "latents/failures.parquet")
    assert failures["clip_id"].tolist() == [row["clip_id"]]
    assert row["clip_id"] not in tensors_of(POOL / "latents")
    assert read_manifest(POOL / "latents")["num_clips"] == 4
    video.unlink()
    shutil.rmtree(".motive/work/latents")
    with pytest.raises(ValueError, match=f"{row['clip_id']}.* is missing"):
        latents.run("pool", params_of())


def test_a_latent_that_float16_cannot_hold_is_a_failure_with_its_reason(copy):
    config = Path("model/vae/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latents_std": [1e-30] * 4}))
    latents.run("pool", params_of())
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


# ---- sketches


def whole_gradient_sketch(latent, text, mask, params: Params) -> torch.Tensor:
    """By autograd in one piece, then projected."""
    model = backbones.load_transformer(*CPU)
    names, parameters = zip(*model.named_parameters(), strict=True)
    s = params.sketches
    projection = Fastfood(s.dim, s.projection_seed)
    z, eps = latent.float(), common_noise(s.noise_seed, SHAPE)
    e, units = backbones.padded([text.float()], params.latents.max_tokens), []
    for sigma in s.sigmas:
        v = backbones.velocity(model, noised(z, eps, sigma)[None], torch.tensor([sigma]), e)[0]
        loss = motion_weighted_loss(v, target_velocity(z, eps), mask.float())
        total = projection.zeros()
        for name, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
            projection.add(total, name, gradient)
        units.append(projection.close(total))
    return unit(torch.stack(units))


@pytest.fixture(scope="module")
def sketched(project: Path) -> Path:
    sketches.run("pool", params_of())
    return project


def test_a_sketch_is_the_projected_gradient_of_the_motion_weighted_loss(sketched):
    made, seen, masks = (tensors_of(POOL / stage) for stage in ("sketches", "latents", "masks"))
    for one in list(made)[:2]:  # a random mask, and ones: the plain loss
        want = whole_gradient_sketch(seen[one]["latent"], seen[one]["text"], masks[one]["mask"], params_of())
        torch.testing.assert_close(made[one]["sketch"], want, atol=1e-5, rtol=1e-4)
        assert made[one]["sketch"].norm() == pytest.approx(1)
        assert bool(made[one]["ok"])


def test_a_mask_of_ones_is_the_plain_loss(sketched):
    one = read_clips("pool")["clip_id"].tolist()[1]
    clip, made = tensors_of(POOL / "latents")[one], tensors_of(POOL / "sketches")[one]
    model, z, eps = backbones.load_transformer(*CPU), clip["latent"].float(), common_noise(0, SHAPE)
    text = backbones.padded([clip["text"].float()], 8)
    with torch.no_grad():
        for loss, sigma in zip(made["loss"], params_of().sketches.sigmas, strict=True):
            v = backbones.velocity(model, noised(z, eps, sigma)[None], torch.tensor([sigma]), text)[0]
            assert float(loss) == pytest.approx(float((v - (eps - z)).pow(2).mean()), rel=1e-5)


def test_segments_add_up_to_the_sketch_of_the_whole(sketched, copy):
    whole = tensors_of(POOL / "sketches")
    sketches.run("pool", params_of(sketches={"segments": 2}))
    for one, clip in tensors_of(POOL / "sketches").items():
        torch.testing.assert_close(clip["segments"].float().sum(0), whole[one]["sketch"], atol=2e-3, rtol=0)
        torch.testing.assert_close(clip["sketch"], whole[one]["sketch"], atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(clip["loss"], whole[one]["loss"])


def test_checkpointing_changes_no_number(sketched, copy):
    whole = tensors_of(POOL / "sketches")
    shutil.rmtree(".motive/work/sketches")
    forget_models()
    sketches.run("pool", params_of(sketches={"gradient_checkpointing": True}))
    for one, clip in tensors_of(POOL / "sketches").items():
        torch.testing.assert_close(clip["sketch"], whole[one]["sketch"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("which", "some"),
    [("attention", r"attn"), ("lora", r"lora_B"), (r"blocks\.0\.ffn", r"blocks\.0\.ffn")],
)
def test_only_the_chosen_parameters_are_differentiated(sketched, copy, which, some):
    forget_models()
    model, _ = sketches.load(CPU, which, False, ("fastfood", DIM, 0))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert len(trained) < len(list(model.named_parameters()))
    assert any(re.search(some, name) for name in trained)
    forget_models()
    sketches.run("pool", params_of(sketches={"parameters": which}))
    found = torch.stack([clip["sketch"] for clip in tensors_of(POOL / "sketches").values() if clip["ok"]])
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.ones(len(found)))
    forget_models()


@pytest.mark.parametrize(
    ("which", "why"), [("temporal", "finds none of the"), ("(", "no regular expression")]
)
def test_parameters_that_are_not_there_are_refused(sketched, copy, which, why):
    forget_models()
    with pytest.raises(ValueError, match=why):
        sketches.run("pool", params_of(sketches={"parameters": which}))
    forget_models()


@pytest.mark.parametrize(
    ("storage", "dtype", "width"),
    [("float16", torch.float16, DIM), ("int8", torch.int8, DIM), ("bit", torch.uint8, DIM // 8)],
)
def test_the_pool_is_stored_as_asked_and_queries_in_float32(sketched, copy, storage, dtype, width):
    whole = tensors_of(POOL / "sketches")
    sketches.run("pool", params_of(sketches={"storage": storage}))
    for one, clip in tensors_of(POOL / "sketches").items():
        assert (clip["sketch"].dtype, clip["sketch"].shape[-1]) == (dtype, width)
        if clip["ok"]:
            assert (unpack(clip["sketch"]) * whole[one]["sketch"]).sum() > (
                0.7 if storage == "bit" else 0.999
            )


def test_a_still_clip_is_not_ok_and_has_an_empty_sketch(sketched):
    still = list(tensors_of(POOL / "sketches").values())[-1]
    assert not still["ok"]
    assert not still["sketch"].any()
    assert not still["loss"].any()


def test_a_query_that_is_a_pool_clip_has_cosine_one_with_it(sketched, copy):
    row = read_clips("pool").iloc[[0]]
    write_clips("queries", row)
    one = row["clip_id"].iloc[0]
    write_masks("queries", {one: tensors_of(POOL / "masks")[one]["mask"].float()})
    latents.run("queries", params_of())
    shutil.rmtree(".motive/work/sketches")
    sketches.run("queries", params_of())
    query = tensors_of(QUERIES / "sketches")[one]["sketch"]
    pool = torch.stack([clip["sketch"] for clip in tensors_of(POOL / "sketches").values()])
    cosines = torch.einsum("nkd,kd->n", pool, query)
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    assert cosines[1:].max() < 0.999


def test_a_gradient_that_is_no_number_sets_its_clip_aside_and_the_run_goes_on(copy):
    seen = tensors_of(POOL / "latents")
    bad = list(seen)[2]
    seen[bad]["latent"] = torch.full(SHAPE, torch.inf).half()
    recipe = shards.Recipe("latents", 99)
    shutil.rmtree(POOL / "latents")
    shards.write_part(recipe, seen, {})
    shards.publish(recipe, list(seen), 2, POOL / "latents")
    sketches.run("pool", params_of())
    failures = read_table(POOL / "sketches/failures.parquet")
    assert failures["clip_id"].tolist() == [bad]
    assert failures["reason"].tolist()[0].startswith("the loss at sigma 0.3 is not finite")
    assert list(tensors_of(POOL / "sketches")) == [one for one in seen if one != bad]


def test_a_clip_without_latent_fails_for_the_same_reason_and_shards_stay_row_ranges(copy):
    seen = tensors_of(POOL / "latents")
    lost = next(iter(seen))
    del seen[lost]
    recipe = shards.Recipe("latents", 99)
    shutil.rmtree(POOL / "latents")
    shards.write_part(recipe, seen, {lost: "broken"})
    shards.publish(recipe, read_clips("pool")["clip_id"].tolist(), 2, POOL / "latents")
    sketches.run("pool", params_of())
    failures = read_table(POOL / "sketches/failures.parquet")
    assert failures.to_dict("records") == [{"clip_id": lost, "reason": "latents: broken"}]
    names = [
        "00000000-00000002.safetensors",
        "00000002-00000004.safetensors",
        "00000004-00000005.safetensors",
    ]
    assert read_manifest(POOL / "sketches")["shards"] == names


@pytest.mark.parametrize("stage", ["latents", "sketches"])
def test_workers_interruptions_and_shards_lost_leave_the_same_bytes(sketched, copy, stage):
    run = {"latents": latents.run, "sketches": sketches.run}[stage]
    before = bytes_of(POOL / stage)
    parts = sorted(Path(".motive/work", stage).glob("*/*.safetensors"))
    assert len(parts) == 3
    parts[0].unlink()  # a part that a kill left out, and one it tore
    kept = parts[2].read_bytes()
    parts[1].write_bytes(kept[: len(kept) // 2])
    shutil.rmtree(POOL / stage)
    run("pool", params_of())
    assert bytes_of(POOL / stage) == before
    shutil.rmtree(Path(".motive/work", stage))
    run("pool", params_of().model_copy(update={"workers": 2}))
    assert bytes_of(POOL / stage) == before


@NEEDS_RAY
@pytest.mark.parametrize("stage", ["latents", "sketches"])
def test_workers_on_ray_leave_the_same_bytes(sketched, copy, stage):
    before = bytes_of(POOL / stage)
    shutil.rmtree(Path(".motive/work", stage))
    run = {"latents": latents.run, "sketches": sketches.run}[stage]
    run("pool", params_of().model_copy(update={"workers": 2, "ray": "local"}))
    assert bytes_of(POOL / stage) == before


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


def tune(**changes: Any) -> None:
    finetuning.train(params_of(finetuning=changes), read_clips("pool")["clip_id"].tolist()[:3], OUT)


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
    sketches.run("pool", params_of(model={"dtype": "bfloat16"}))
    made = {one: clip["sketch"] for one, clip in tensors_of(POOL / "sketches").items()}
    forget_models()
    sketches.run("pool", params_of())
    cosines = [
        float((made[one] * clip["sketch"]).sum()) for one, clip in tensors_of(POOL / "sketches").items()
    ]
    assert min(cosines[:-1]) > 0.95
    clip_ids = read_clips("pool")["clip_id"].tolist()
    finetuning.train(params_of(model={"dtype": "bfloat16"}, finetuning={"method": method}), clip_ids, OUT)
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
from motive.formats import checkpoints
from motive.stages import finetuning
from tests.test_model_stages import tune

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


def test_a_clip_without_latent_stops_the_training_by_name(copy):
    with pytest.raises(ValueError, match="clip 0123456789abcdef has no latent"):
        finetuning.train(params_of(), ["0123456789abcdef"], OUT)


def test_a_loss_that_is_no_number_stops_the_training(copy):
    with pytest.raises(ValueError, match=r"not finite at step \d+: lower finetuning.learning_rate"):
        tune(learning_rate=1e30, steps=20)
    assert not OUT.exists()
