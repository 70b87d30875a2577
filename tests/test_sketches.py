"""From latents, text and masks to sketches."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from motive import per_clip
from motive.clips.table import read_clips, write_clips
from motive.maths.denoising import common_noise, motion_weighted_loss, noised, target_velocity
from motive.maths.packing import unit, unpack
from motive.maths.projection import Fastfood
from motive.models import backbones
from motive.params import Params
from motive.stages import latents, run_stage, sketches
from motive.store import work
from motive.store.files import read_table
from motive.store.recipes import Recipe
from motive.store.shards import read_manifest
from motive.store.work import Failure
from testing.marks import NEEDS_RAY
from testing.model_project import CPU, DIM, POOL, QUERIES, bytes_of, forget_models, params_of, tensors_of
from testing.tiny import (
    SHAPE,
    write_masks,
)

pytestmark = pytest.mark.slow

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
    run_stage(sketches, params_of(), "pool")
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
    run_stage(sketches, params_of(sketches={"segments": 2}), "pool")
    for one, clip in tensors_of(POOL / "sketches").items():
        torch.testing.assert_close(clip["segments"].float().sum(0), whole[one]["sketch"], atol=2e-3, rtol=0)
        torch.testing.assert_close(clip["sketch"], whole[one]["sketch"], atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(clip["loss"], whole[one]["loss"])


def test_checkpointing_changes_no_number(sketched, copy):
    whole = tensors_of(POOL / "sketches")
    shutil.rmtree(".motive/work/sketches")
    forget_models()
    run_stage(sketches, params_of(sketches={"gradient_checkpointing": True}), "pool")
    for one, clip in tensors_of(POOL / "sketches").items():
        torch.testing.assert_close(clip["sketch"], whole[one]["sketch"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("which", "some"),
    [("attention", r"attn"), ("lora", r"lora_B"), (r"blocks\.0\.ffn", r"blocks\.0\.ffn")],
)
def test_only_the_chosen_parameters_are_differentiated(sketched, copy, which, some):
    forget_models()
    model, _ = sketches.load(*CPU, which, False, "fastfood", DIM, 0)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert len(trained) < len(list(model.named_parameters()))
    assert any(re.search(some, name) for name in trained)
    forget_models()
    run_stage(sketches, params_of(sketches={"parameters": which}), "pool")
    stored = torch.stack([clip["sketch"] for clip in tensors_of(POOL / "sketches").values() if clip["ok"]])
    torch.testing.assert_close(stored.flatten(1).norm(dim=1), torch.ones(len(stored)))
    forget_models()


@pytest.mark.parametrize(
    ("which", "why"), [("temporal", "finds none of the"), ("(", "no regular expression")]
)
def test_parameters_that_are_not_there_are_refused(sketched, copy, which, why):
    forget_models()
    with pytest.raises(ValueError, match=why):
        run_stage(sketches, params_of(sketches={"parameters": which}), "pool")
    forget_models()


@pytest.mark.parametrize(
    ("storage", "dtype", "width"),
    [("float16", torch.float16, DIM), ("int8", torch.int8, DIM), ("bit", torch.uint8, DIM // 8)],
)
def test_the_pool_is_stored_as_asked_and_queries_in_float32(sketched, copy, storage, dtype, width):
    whole = tensors_of(POOL / "sketches")
    run_stage(sketches, params_of(sketches={"storage": storage}), "pool")
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
    run_stage(latents, params_of(), "queries")
    shutil.rmtree(".motive/work/sketches")
    run_stage(sketches, params_of(), "queries")
    query = tensors_of(QUERIES / "sketches")[one]["sketch"]
    pool = torch.stack([clip["sketch"] for clip in tensors_of(POOL / "sketches").values()])
    cosines = torch.einsum("nkd,kd->n", pool, query)
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    assert cosines[1:].max() < 0.999


def test_a_gradient_that_is_no_number_sets_its_clip_aside_and_the_run_goes_on(copy):
    seen = tensors_of(POOL / "latents")
    bad = list(seen)[2]
    seen[bad]["latent"] = torch.full(SHAPE, torch.inf).half()
    recipe = Recipe("latents", 99, {"clips": {"fps": 10.0}})
    shutil.rmtree(POOL / "latents")
    work.write_chunk(recipe, seen, {})
    work.publish(recipe, list(seen), 2, POOL / "latents")
    run_stage(sketches, params_of(), "pool")
    failures = read_table(POOL / "sketches/failures.parquet")
    assert failures["clip_id"].tolist() == [bad]
    assert failures["kind"].tolist() == ["not_finite"]
    assert failures["reason"].tolist()[0].startswith("the loss at sigma 0.3 is not finite")
    assert list(tensors_of(POOL / "sketches")) == [one for one in seen if one != bad]


def test_nothing_but_clips_that_failed_gets_through(copy):
    ids = read_clips("pool")["clip_id"].tolist()
    recipe = Recipe("latents", 99, {"clips": {"fps": 10.0}})
    work.write_chunk(recipe, {}, dict.fromkeys(ids, Failure("unreadable", "torn")))
    work.publish(recipe, ids, 2, POOL / "latents")
    run_stage(sketches, params_of(), "pool")
    failures = read_table(POOL / "sketches/failures.parquet")
    assert failures["clip_id"].tolist() == ids
    assert set(failures["reason"]) == {"latents: torn"}
    assert set(failures["kind"]) == {"unreadable"}, "of its origin"


def test_a_gradient_that_is_not_finite_though_its_loss_is_sets_its_clip_aside(sketched, copy, monkeypatch):
    """As an overflow in a half-precision backward pass would be."""
    bad = list(tensors_of(POOL / "latents"))[1]
    whole, calls = per_clip.sketch_gradient, []

    def broken(*arguments: Any, **named: Any) -> torch.Tensor:
        calls.append(1)
        sketch = whole(*arguments, **named)
        return torch.full_like(sketch, torch.inf) if len(calls) == 3 else sketch  # of two noise levels each

    shutil.rmtree(".motive/work/sketches")
    monkeypatch.setattr(per_clip, "sketch_gradient", broken)
    run_stage(sketches, params_of(), "pool")
    failures = read_table(POOL / "sketches/failures.parquet")
    assert failures["clip_id"].tolist() == [bad]
    assert failures["reason"].tolist()[0].startswith("the gradient at sigma 0.3 is not finite (loss ")


def test_ten_noise_levels_are_ten_sketches_each_as_alone(sketched, copy):
    sigmas = tuple((n + 0.5) / 10 for n in range(10))
    run_stage(sketches, params_of(sketches={"sigmas": sigmas}), "pool")
    ten = tensors_of(POOL / "sketches")
    run_stage(sketches, params_of(sketches={"sigmas": sigmas[6:7]}), "pool")
    for one, alone in tensors_of(POOL / "sketches").items():
        assert ten[one]["sketch"].shape == (10, DIM)
        torch.testing.assert_close(ten[one]["sketch"][6] * 10**0.5, alone["sketch"][0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(ten[one]["loss"][6:7], alone["loss"])


def test_a_clip_without_latent_fails_for_the_same_reason_and_shards_stay_row_ranges(copy):
    seen = tensors_of(POOL / "latents")
    lost = next(iter(seen))
    del seen[lost]
    recipe = Recipe("latents", 99, {"clips": {"fps": 10.0}})
    shutil.rmtree(POOL / "latents")
    work.write_chunk(recipe, seen, {lost: Failure("unreadable", "broken")})
    work.publish(recipe, read_clips("pool")["clip_id"].tolist(), 2, POOL / "latents")
    run_stage(sketches, params_of(), "pool")
    failures = read_table(POOL / "sketches/failures.parquet")
    assert failures.to_dict("records") == [
        {"clip_id": lost, "kind": "unreadable", "reason": "latents: broken"}
    ]
    names = [
        "00000000-00000002.safetensors",
        "00000002-00000004.safetensors",
        "00000004-00000005.safetensors",
    ]
    assert read_manifest(POOL / "sketches")["shards"] == names


@pytest.mark.parametrize("stage", ["latents", "sketches"])
def test_workers_interruptions_and_shards_lost_leave_the_same_bytes(sketched, copy, stage):
    module = {"latents": latents, "sketches": sketches}[stage]
    before = bytes_of(POOL / stage)
    parts = sorted(Path(".motive/work", stage).glob("*/*.safetensors"))
    assert len(parts) == 3
    parts[0].unlink()  # a part that a kill left out, and one it tore
    kept = parts[2].read_bytes()
    parts[1].write_bytes(kept[: len(kept) // 2])
    shutil.rmtree(POOL / stage)
    run_stage(module, params_of(), "pool")
    assert bytes_of(POOL / stage) == before
    shutil.rmtree(Path(".motive/work", stage))
    run_stage(module, params_of().model_copy(update={"workers": 2}), "pool")
    assert bytes_of(POOL / stage) == before


@NEEDS_RAY
@pytest.mark.parametrize("stage", ["latents", "sketches"])
def test_workers_on_ray_leave_the_same_bytes(sketched, copy, stage):
    before = bytes_of(POOL / stage)
    shutil.rmtree(Path(".motive/work", stage))
    module = {"latents": latents, "sketches": sketches}[stage]
    run_stage(module, params_of().model_copy(update={"workers": 2, "ray": "local"}), "pool")
    assert bytes_of(POOL / stage) == before
