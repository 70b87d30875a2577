"""Each backbone does here what it does in its own diffusers pipeline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motive.clips.table import read_clips
from motive.models import backbones, tuned
from motive.models import folder as model_folder
from motive.models.experts import Experts
from motive.models.lora import add_lora, load_lora, save_lora
from motive.stages import finetuning, latents, run_stage, sketches
from motive.store.shards import locate, read_clip_tensors
from testing.tiny import CHANNELS, small_params, write_masks, write_split
from testing.tiny_backbones import BACKBONES, write_backbone

pytestmark = pytest.mark.slow

SIZE, TOKENS, FPS = (9, 64, 64), 8, 12.0
SHAPES = {
    "wan2.1": (CHANNELS, 3, 8, 8),
    "ti2v-5b": (CHANNELS, 3, 4, 4),
    "a14b": (CHANNELS, 3, 8, 8),
    "ltx": (CHANNELS, 2, 2, 2),
}
CAPTION = "a red ball rolls"
EVERY = pytest.mark.parametrize("name", BACKBONES)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in BACKBONES:
        write_backbone(name, folder / name)
    return folder


@pytest.fixture
def path(models: Path, name: str) -> str:
    return str(models / name)


def text_of(path: str, *captions: str, max_tokens: int = TOKENS) -> torch.Tensor:
    encoder = backbones.load_text_encoder(path, "float32", "cpu")
    return backbones.padded([backbones.encode_text(*encoder, c, TOKENS) for c in captions], max_tokens)


def noise(name: str, num_clips: int) -> torch.Tensor:
    return torch.randn(num_clips, *SHAPES[name], generator=torch.Generator().manual_seed(0))


# ---- what fits it


@EVERY
def test_frames_and_sizes_that_do_not_fit_are_refused_with_some_that_do(name, path):
    assert model_folder.latent_shape(path, *SIZE) == SHAPES[name]
    for size in ((6, 64, 64), (9, 40, 64), (9, 64, 72)):
        with pytest.raises(ValueError, match="does not fit"):
            model_folder.latent_shape(path, *size)


# ---- latents and text


@EVERY
def test_a_clip_becomes_a_latent_and_the_latent_a_clip(name, path):
    vae = backbones.load_vae(path, "cpu")
    frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    latent = backbones.encode_video(vae, frames)
    assert latent.shape == SHAPES[name]
    assert backbones.decode_video(vae, latent).shape == frames.shape


def test_latents_of_ltx_are_normalised_as_its_pipeline_does(models):
    from diffusers import LTXPipeline  # type: ignore[attr-defined]

    vae = backbones.load_vae(str(models / "ltx"), "cpu")
    vae.register_to_config(scaling_factor=0.7)
    frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    mode = vae.encode(video).latent_dist.mode()
    want = LTXPipeline._normalize_latents(mode, vae.latents_mean, vae.latents_std, 0.7)
    torch.testing.assert_close(backbones.encode_video(vae, frames), want[0])


@EVERY
@pytest.mark.parametrize("caption", ["", CAPTION, "a red ball rolls a blue box spins a ball falls"])
def test_text_is_what_the_pipeline_embeds(name, path, caption):
    pipeline = backbones.load_pipeline(path, "float32", "cpu")
    whole, *rest = pipeline.encode_prompt(
        caption, do_classifier_free_guidance=False, max_sequence_length=TOKENS
    )
    text = text_of(path, caption)
    seen = rest[0][..., None] if name == "ltx" else torch.ones(1, TOKENS, 1)
    torch.testing.assert_close(text * seen, whole * seen, atol=1e-5, rtol=1e-4)
    if name == "ltx":
        assert torch.equal(text.ne(0).any(2), rest[0])


# ---- velocity


def steps_of(pipeline: Any, fps: float) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(input, timestep, output) of each time the pipeline calls a transformer."""
    calls = []

    def note(_module: Any, _args: Any, kwargs: Any, output: Any) -> None:
        calls.append((kwargs["hidden_states"], kwargs["timestep"].float(), output[0]))

    experts = [pipeline.transformer, getattr(pipeline, "transformer_2", None)]
    hooks = [e.register_forward_hook(note, with_kwargs=True) for e in experts if e is not None]
    backbones.generate(pipeline, CAPTION, SIZE, TOKENS, 4, 1.0, 0, fps)
    for hook in hooks:
        hook.remove()
    return calls


@EVERY
@torch.no_grad()
def test_velocity_is_what_the_pipeline_computes_at_each_step(name, path):
    model, text = backbones.load_transformer(path, "float32", "cpu"), text_of(path, CAPTION)
    calls = steps_of(backbones.load_pipeline(path, "float32", "cpu"), FPS)
    assert len(calls) == 4
    for z, timestep, want in calls:
        if name == "ltx":  # tokens
            z, want = (x.transpose(1, 2).unflatten(2, SHAPES[name][1:]) for x in (z, want))
        assert name != "ti2v-5b" or timestep.shape == (1, 3 * 2 * 2)
        v = backbones.velocity(model, z, timestep.flatten()[:1] / 1000, text, FPS)
        torch.testing.assert_close(v, want, atol=1e-5, rtol=1e-4)


@EVERY
@torch.no_grad()
def test_each_clip_of_a_batch_is_as_if_it_were_alone(name, path):
    model, text = (
        backbones.load_transformer(path, "float32", "cpu"),
        text_of(path, CAPTION, "", "a box", "rests"),
    )
    z, sigma = noise(name, 4), torch.tensor([0.3, 0.95, 0.875, 0.8])
    together = backbones.velocity(model, z, sigma, text)
    alone = [backbones.velocity(model, z[i : i + 1], sigma[i : i + 1], text[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_padding_of_a_text_is_unseen_by_ltx_and_so_is_the_frame_rate_by_wan(models):
    for name, sees_padding, sees_rate in (("wan2.1", True, False), ("ltx", False, True)):
        path, z, sigma = str(models / name), noise(name, 1), torch.tensor([0.5])
        model = backbones.load_transformer(path, "float32", "cpu")
        v, longer, faster = (
            backbones.velocity(model, z, sigma, text_of(path, CAPTION, max_tokens=tokens), fps)
            for tokens, fps in ((TOKENS, FPS), (2 * TOKENS, FPS), (TOKENS, 2 * FPS))
        )
        assert torch.allclose(v, longer, atol=1e-5) != sees_padding
        assert torch.allclose(v, faster, atol=1e-5) != sees_rate


@EVERY
def test_every_parameter_gets_a_gradient(name, path):
    model = backbones.load_transformer(path, "float32", "cpu")
    z, text = noise(name, 2), text_of(path, CAPTION, "a blue box")
    backbones.velocity(model, z, torch.tensor([0.3, 0.95]), text).pow(2).mean().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


# ---- two experts


@pytest.mark.parametrize(
    ("sigma", "expert"), [(1.0, "transformer"), (0.875, "transformer"), (0.8749, "transformer_2")]
)
def test_the_noise_level_chooses_the_expert_and_only_that_one_learns(models, sigma, expert):
    path = str(models / "a14b")
    model: Any = backbones.load_transformer(path, "float32", "cpu")
    assert isinstance(model, Experts)
    z, text, level = noise("a14b", 1), text_of(path, CAPTION), torch.tensor([sigma])
    v = backbones.velocity(model, z, level, text)
    torch.testing.assert_close(v, backbones.velocity(getattr(model, expert), z, level, text))
    v.pow(2).mean().backward()
    learned = {key.split(".")[0] for key, p in model.named_parameters() if p.grad is not None}
    assert learned == {expert}


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # of torch, about its speed
def test_experts_compute_in_mixed_precision_too(models):
    path, level = str(models / "a14b"), torch.tensor([0.3, 0.95])
    model = backbones.load_transformer(path, "float32", "cpu")
    z, text = noise("a14b", 2), text_of(path, CAPTION, "")
    with torch.no_grad():
        want = backbones.velocity(model, z, level, text)
        with torch.autocast("cpu", torch.bfloat16):
            v = backbones.velocity(model, z, level, text)
    torch.testing.assert_close(v, want, atol=0.05, rtol=0.05)


# ---- dtypes, fine-tuning, samples


@EVERY
def test_what_is_written_in_bfloat16_is_what_is_loaded(name, path, tmp_path):
    model = backbones.load_transformer(path, "bfloat16", "cpu")
    assert ({p.dtype for p in model.parameters()} == {torch.bfloat16}) == (name == "ltx")
    backbones.save_transformer(model, "bfloat16", tmp_path)
    again = backbones.load_transformer(path, "bfloat16", "cpu", str(tmp_path))
    before, after = dict(model.named_parameters()), dict(again.named_parameters())
    assert before.keys() == after.keys()
    torch.testing.assert_close(after, before, rtol=0, atol=0)  # and of the same types
    z, text = noise(name, 2), text_of(path, CAPTION, "")
    with torch.no_grad():
        v = backbones.velocity(model, z, torch.tensor([0.3, 0.95]), text)
    assert v.dtype == torch.bfloat16


@EVERY
def test_a_lora_is_read_by_us_and_by_the_pipeline(name, path, tmp_path):
    model: Any = backbones.load_transformer(path, "float32", "cpu")
    add_lora(model, 4, seed=0)
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p.data, std=0.3)
    save_lora(model, tmp_path)
    again = backbones.load_transformer(path, "float32", "cpu")
    base = backbones.load_transformer(path, "float32", "cpu")
    load_lora(again, str(tmp_path))
    pipeline = backbones.load_pipeline(path, "float32", "cpu")
    pipeline.load_lora_weights(str(tmp_path), weight_name="pytorch_lora_weights.safetensors")
    if name == "a14b":
        pipeline.load_lora_weights(
            str(tmp_path), weight_name="pytorch_lora_weights_2.safetensors", load_into_transformer_2=True
        )
        theirs = Experts(pipeline.transformer, pipeline.transformer_2, 0.875)
    else:
        theirs = pipeline.transformer
    z, sigma, text = noise(name, 2), torch.tensor([0.3, 0.95]), text_of(path, CAPTION, "")
    with torch.no_grad():
        v, *same, other = (backbones.velocity(m.eval(), z, sigma, text) for m in (model, again, theirs, base))
    for one in same:
        torch.testing.assert_close(one, v)
    assert not torch.allclose(other[0], v[0], atol=1e-3)
    assert not torch.allclose(other[1], v[1], atol=1e-3)


@EVERY
def test_a_video_is_the_same_for_the_same_seed_and_with_layers_that_wait(name, path):
    args = (CAPTION, SIZE, TOKENS, 2, 5.0)
    pipeline = backbones.load_pipeline(path, "float32", "cpu")
    video = backbones.generate(pipeline, *args, 0, FPS)
    assert video.shape == (*SIZE, 3)
    assert not np.array_equal(video, backbones.generate(pipeline, *args, 1, FPS))
    waiting = backbones.load_pipeline(path, "float32", "cpu", offload="group")
    assert np.array_equal(video, backbones.generate(waiting, *args, 0, FPS))


# ---- the stages


@pytest.fixture
def project(models: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    ids = write_split("pool", ["rolls", "spins"])
    write_masks("pool", {one: torch.ones(SHAPES[name][1:]) for one in ids})
    caches = (latents.load, sketches.load, tuned.frozen_transformer)
    yield small_params(
        model={"path": str(models / name)},
        clips={"num_frames": 9, "height": 64, "width": 64, "resample": "stretch"},
        sketches={"dim": 64, "sigmas": (0.3, 0.95)},
        finetuning={"steps": 2, "batch_size": 2, "learning_rate": 1e-2, "gradient_checkpointing": True},
    )
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("name", ["a14b", "ltx"])
def test_the_stages_run_from_clips_to_a_tuned_model(name, path, project):
    run_stage(latents, project, "pool")
    run_stage(sketches, project, "pool")
    where = locate(Path("data/pool/sketches"))
    made = dict(read_clip_tensors(where, list(where)))
    assert all(bool(clip["ok"]) for clip in made.values())
    assert len(made) == 2
    where = (path, "float32", "cpu")
    z, sigma, text = noise(name, 2), torch.tensor([0.3, 0.95]), text_of(path, CAPTION, "")
    for method in ("full", "lora"):
        params = project.model_copy(
            update={"finetuning": project.finetuning.model_copy(update={"method": method})}
        )
        finetuning.train(
            read_clips("pool")["clip_id"].tolist(),
            Path("data/finetuning"),
            finetuning=params.finetuning,
            model=params.model,
            max_tokens=params.latents.max_tokens,
            fps=params.clips.fps,
        )
        model = tuned.frozen_transformer(tuned.tuned_model(*where, "data/finetuning"))
        with torch.no_grad():
            v, base = (
                backbones.velocity(m, z, sigma, text) for m in (model, backbones.load_transformer(*where))
            )
        assert not torch.allclose(v, base, atol=1e-3)
