"""Image to video: each kind of backbone is given a first frame here as in its own diffusers pipeline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import motive
from motive.clips.table import read_clips
from motive.maths.losses import loss_grid
from motive.maths.plan import Plan
from motive.maths.projection import KINDS
from motive.maths.training import plain_loss
from motive.models import backbones, tuned
from motive.models import folder as model_folder
from motive.models.first_frame import FirstFrame, first_frame_of
from motive.stages import finetuning, latents, run_stage, sketches
from motive.store.shards import locate, read_clip_tensors
from testing.tiny import small_params, write_masks, write_split
from testing.tiny_backbones import IMAGE_TO_VIDEO, write_backbone

pytestmark = pytest.mark.slow

SIZE = (9, 64, 64)
FPS = 12.0
CAPTION = "a red ball rolls"
TOKENS = {"ti2v-5b": 8, "i2v": 512, "i2v-a14b": 8}
KINDS_OF = {"ti2v-5b": "clean", "i2v": "channels", "i2v-a14b": "channels"}
GRIDS = {"ti2v-5b": (3, 4, 4), "i2v": (3, 8, 8), "i2v-a14b": (3, 8, 8)}
EVERY = pytest.mark.parametrize("name", IMAGE_TO_VIDEO)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in IMAGE_TO_VIDEO:
        write_backbone(name, folder / name)
    return folder


@pytest.fixture
def path(models: Path, name: str) -> str:
    return str(models / name)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)


def encoded(path: str, name: str, frames: np.ndarray) -> dict[str, Tensor]:
    """What the latents stage keeps of a clip."""
    kept = latents.load(path, "float32", "cpu", "first_frame")
    return motive.encode_clip(frames, CAPTION, **kept, max_tokens=TOKENS[name])


@EVERY
@torch.no_grad()
def test_velocity_is_what_the_pipeline_computes_at_each_step(name, path, frames):
    pipeline = backbones.load_pipeline(path, "float32", "cpu", condition="first_frame")
    calls = []

    def note(_module: Any, _args: Any, kwargs: Any, output: Any) -> None:
        calls.append((kwargs["hidden_states"], kwargs["timestep"].float(), output[0]))

    experts = [pipeline.transformer, getattr(pipeline, "transformer_2", None)]
    for expert in filter(None, experts):
        expert.register_forward_hook(note, with_kwargs=True)
    video = backbones.generate(pipeline, CAPTION, SIZE, TOKENS[name], 4, 1.0, 0, FPS, first_frame=frames[0])
    assert video.shape == frames.shape
    assert len(calls) == 4

    clip = encoded(path, name, frames)
    given = first_frame_of([clip], "first_frame", "cpu")
    assert given is not None
    assert given.clean == (KINDS_OF[name] == "clean")
    assert (given.image is not None) == (name == "i2v")
    model = backbones.load_transformer(path, "float32", "cpu")
    text = backbones.padded([clip["text"].float()], TOKENS[name])
    for hidden, timestep, want in calls:
        z = hidden[:, : want.shape[1]]
        v = backbones.velocity(model, z, timestep.flatten()[-1:] / 1000, text, FPS, given)
        torch.testing.assert_close(v, want, atol=2e-3, rtol=1e-3)  # what is kept has 16 bits
        if given.clean:
            first = backbones.encode_video(backbones.load_vae(path, "cpu"), frames[:1])
            torch.testing.assert_close(z[0, :, :1], first, atol=1e-4, rtol=1e-4)
        else:
            torch.testing.assert_close(
                hidden[0, want.shape[1] :].half(), clip["channels"], atol=2e-3, rtol=1e-3
            )


@EVERY
def test_a_batch_is_as_if_each_clip_were_alone(name, path, frames):
    clips = [encoded(path, name, frames), encoded(path, name, frames[::-1].copy())]
    model = backbones.load_transformer(path, "float32", "cpu")
    text = backbones.padded([clip["text"].float() for clip in clips], TOKENS[name])
    z = torch.stack([clip["latent"] for clip in clips]).float()
    sigma = torch.tensor([0.95, 0.3])
    given = first_frame_of(clips, "first_frame", "cpu")
    assert given is not None
    with torch.no_grad():
        together = backbones.velocity(model, z, sigma, text, FPS, given)
        for row in range(2):
            alone = backbones.velocity(
                model, z[row : row + 1], sigma[row : row + 1], text[row : row + 1], FPS, given.of([row])
            )
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-4)


# ---- a first frame that is given is not predicted


def test_a_given_frame_has_no_noise_no_loss_and_no_weight():
    z = torch.randn(2, 4, 3, 4, 4)
    eps = torch.randn(z.shape)
    seen = []

    def predict(noised: Tensor, sigma: Tensor) -> Tensor:
        seen.append(noised)
        wrong_first = (eps - z).clone()
        wrong_first[:, :, 0] += 100
        return wrong_first

    assert plain_loss(predict, z, eps, torch.tensor([0.5, 0.9]), first_frame=True) == 0
    assert torch.equal(seen[0][:, :, 0], z[:, :, 0])
    assert not torch.equal(seen[0][:, :, 1], z[:, :, 1])
    assert plain_loss(predict, z, eps, torch.tensor([0.5, 0.9])) > 0


def test_losses_do_not_see_a_given_frame():
    z = torch.randn(4, 3, 4, 4)
    W = torch.rand(3, 4, 4)

    def off_in_the_first(noised: Tensor, sigma: Tensor) -> Tensor:
        v = torch.zeros_like(noised)
        v[:, :, 0] = 100
        return v

    grids = [
        loss_grid(predict, z, W, (0.3, 0.7), (0,), clean_first_frame=True)
        for predict in (off_in_the_first, lambda noised, sigma: torch.zeros_like(noised))
    ]
    for name in ("motion", "plain"):
        assert torch.equal(grids[0][name], grids[1][name])


def test_a_sketch_does_not_see_what_moves_in_a_given_frame():
    torch.manual_seed(0)
    model = torch.nn.Conv3d(4, 4, 1)
    latent = torch.randn(4, 3, 4, 4)

    def sketch(mask: Tensor, clean: bool = True) -> dict[str, Tensor]:
        return motive.sketch_clip(
            latent,
            torch.zeros(2, 8),
            mask,
            model=model,
            velocity=lambda model, noised, sigma, text: model(noised),
            plan=Plan((0.5,), 0),
            projection=KINDS["fold"](64, 0, "cpu"),
            segments=1,
            storage="float32",
            clean_first_frame=clean,
        )

    in_first = torch.zeros(3, 4, 4)
    in_first[0] = 1
    assert not sketch(in_first)["ok"]
    assert sketch(in_first, clean=False)["ok"]
    later = torch.rand(3, 4, 4)
    assert torch.equal(sketch(later)["sketch"], sketch(torch.cat([0 * later[:1], later[1:]]))["sketch"])

    # Its loss is the one that evaluation reports: a mean over the frames that are predicted.
    for clean in (True, False):
        grid = loss_grid(lambda noised, sigma: model(noised), latent, later, (0.5,), (0,), clean)
        torch.testing.assert_close(sketch(later, clean)["loss"], grid["motion"][:, 0])


# ---- the stages


@pytest.fixture
def project(models: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    ids = write_split("pool", ["rolls", "spins"])
    write_masks("pool", {one: torch.ones(GRIDS[name]) for one in ids})
    caches = (latents.load, sketches.load, tuned.frozen_transformer)
    yield small_params(
        model={"path": str(models / name), "condition": "first_frame"},
        clips={"num_frames": 9, "height": 64, "width": 64, "resample": "stretch"},
        latents={"max_tokens": TOKENS[name]},
        sketches={"dim": 64, "sigmas": (0.3, 0.95)},
        finetuning={"steps": 2, "batch_size": 2, "learning_rate": 1e-2},
    )
    for cached in caches:
        cached.cache_clear()


@EVERY
def test_the_stages_run_from_clips_to_a_tuned_model(name, path, project):
    run_stage(latents, project, "pool")
    kept = dict(read_clip_tensors(locate(Path("data/pool/latents")), read_clips("pool")["clip_id"].tolist()))
    more = {"ti2v-5b": set(), "i2v": {"channels", "image"}, "i2v-a14b": {"channels"}}[name]
    assert all(clip.keys() == {"latent", "text"} | more for clip in kept.values())
    run_stage(sketches, project, "pool")
    where = locate(Path("data/pool/sketches"))
    made = dict(read_clip_tensors(where, list(where)))
    assert all(bool(clip["ok"]) for clip in made.values())
    finetuning.train(
        read_clips("pool")["clip_id"].tolist(),
        Path("data/finetuning"),
        finetuning=project.finetuning,
        model=project.model,
        max_tokens=project.latents.max_tokens,
        fps=project.clips.fps,
    )
    model = tuned.frozen_transformer(tuned.tuned_model(path, "float32", "cpu", "data/finetuning"))
    base = backbones.load_transformer(path, "float32", "cpu")
    clip = next(iter(kept.values()))
    given = first_frame_of([clip, clip], "first_frame", "cpu")
    text = backbones.padded(2 * [clip["text"].float()], TOKENS[name])
    z = torch.stack(2 * [clip["latent"].float()])
    with torch.no_grad():
        v, of_base = (
            backbones.velocity(m, z, torch.tensor([0.3, 0.95]), text, FPS, given) for m in (model, base)
        )
    assert not torch.allclose(v, of_base, atol=1e-3)


@pytest.mark.parametrize("name", ["ti2v-5b"])
def test_a_model_that_can_do_without_is_given_the_frame_in_a_share_of_the_steps(project):
    for share in (0.0, 0.3, 1.0):
        settings = project.finetuning.model_copy(update={"first_frame_share": share})
        steps = [finetuning.is_given(step, settings) for step in range(200)]
        assert np.mean(steps) == pytest.approx(share, abs=0.1)
        assert steps == [finetuning.is_given(step, settings) for step in range(200)]


# ---- what does not fit is refused


def test_a_condition_that_the_model_is_not_made_for_is_refused(models, tmp_path):
    write_backbone("wan2.1", tmp_path / "text")
    write_backbone("ltx", tmp_path / "ltx")
    for name in ("text", "ltx"):
        with pytest.raises(ValueError, match="makes videos from text alone"):
            model_folder.first_frame_kind(str(tmp_path / name), "first_frame")
    for name in ("i2v", "i2v-a14b"):
        with pytest.raises(ValueError, match="needs a first frame; use first_frame"):
            model_folder.first_frame_kind(str(models / name), "text")
    assert model_folder.first_frame_kind(str(models / "ti2v-5b"), "text") is None


def test_texts_of_a_length_that_would_be_taken_for_the_image_are_refused(models):
    with pytest.raises(ValueError, match=r"latents.max_tokens: 8 does not fit .* use 512"):
        model_folder.check_tokens(str(models / "i2v"), 8)
    model_folder.check_tokens(str(models / "i2v"), 512)
    model_folder.check_tokens(str(models / "i2v-a14b"), 8)


def test_text_alone_gives_nothing():
    assert first_frame_of([{}], "text", "cpu") is None
    assert first_frame_of([{}], "first_frame", "cpu") == FirstFrame(None, None)
