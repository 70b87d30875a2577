"""Base and tuned model measured on held-out clips and by generated videos: what is made, kept, refused."""

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from motive import generated
from motive.maths.video_metrics import MOTION_METRICS
from motive.models import backbones, tuned
from motive.models.lora import add_lora, save_lora
from motive.stages import evaluation, run_stage
from motive.store import shards
from motive.store.files import read_table
from motive.store.recipes import Recipe
from motive.store.shards import read_clip_tensors
from motive.video.reading import probe
from motive.workers import missing
from motive.workers.deal import deal
from testing.tiny import (
    SHAPE,
    build_transformer,
    small_params,
    write_masks,
    write_pipeline,
    write_split,
    write_stage,
)

pytestmark = pytest.mark.slow

PROMPTS = ["a red ball rolls", "A blue box falls!"]
OUT = Path("data/evaluation")


def write_project(folder: Path) -> list[str]:
    """All that evaluation reads, the last of five held-out clips still; the tuned model is another."""
    write_pipeline(folder / "model")
    ids = write_split("heldout", ["roll", "roll", "spin", "spin", ""], videos=False)
    random = torch.Generator().manual_seed(0)
    latents = {
        one: {
            "latent": torch.randn(SHAPE, generator=random).half(),
            "text": torch.randn(3 + n % 2, 64).bfloat16(),
        }
        for n, one in enumerate(ids)
    }
    write_stage("heldout", Recipe("latents", 1), latents)
    still = torch.arange(5) == 4
    write_masks(
        "heldout", {one: torch.rand(SHAPE[1:], generator=random) * ~still[n] for n, one in enumerate(ids)}
    )
    tune(seed=1)
    Path("data/curation").mkdir()
    Path("data/curation/curation.json").write_text('{"num_pool": 9, "num_selected": 1, "strategy": "motive"}')
    Path("prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return ids


def tune(seed: int) -> None:
    shutil.rmtree("data/finetuning", ignore_errors=True)
    build_transformer(seed).save_pretrained("data/finetuning/transformer")


def metrics() -> dict[str, float]:
    return json.loads((OUT / "metrics.json").read_text())


def written() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(OUT.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project after one run."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("project")
        patch.chdir(folder)
        write_project(folder)
        run_stage(evaluation, small_params())
        yield folder


@pytest.fixture
def copy(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change."""
    folder = tmp_path / "project"
    shutil.copytree(project, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was really made: a model's name for each chunk."""
    made: list[str] = []

    def counted(what, label):
        def make(*arguments):
            made.append(label(*arguments))
            return what(*arguments)

        return make

    def replace(module, name, label):
        monkeypatch.setattr(module, name, counted(getattr(module, name), label))

    replace(evaluation, "measure_losses", lambda recipe, model, *_: f"losses {model.name}")
    replace(generated, "make_videos", lambda generation, _: f"videos {generation.model.name}")
    replace(generated, "measure_motion", lambda generation, _: f"motion {generation.model.name}")
    return made


# ---- what is written


def test_losses_are_means_over_clips_and_grid_and_still_clips_have_no_motion_loss(project):
    table = read_table(OUT / "per_clip.parquet")
    measured = metrics()
    assert sum(table["still"]) == measured["num_heldout_still"] == 1
    assert table["motion_loss_base"].isna().tolist() == table["still"].tolist()
    moving = table[~table["still"]]
    change = moving["motion_loss_tuned"] - moving["motion_loss_base"]
    assert measured["heldout_motion_loss_base"] == pytest.approx(moving["motion_loss_base"].mean())
    assert measured["heldout_plain_loss_tuned"] == pytest.approx(table["plain_loss_tuned"].mean())
    assert measured["heldout_improved_fraction"] == np.mean(change < 0)
    assert measured["heldout_motion_loss_change"] == pytest.approx(change.mean())
    low, high = (measured[f"heldout_motion_loss_change_{end}"] for end in ("low", "high"))
    assert low <= float(np.mean(change)) <= high
    for motion in ("roll", "spin"):
        assert measured[f"heldout_motion_loss_change_{motion}"] == pytest.approx(
            change[moving["motion"] == motion].mean()
        )
    counts = {"num_pool": 9, "num_selected": 1, "num_heldout": 5, "num_prompts": 2}
    assert {name: measured[name] for name in counts} == counts


def test_the_loss_of_a_clip_is_that_of_its_parts_by_hand(project):
    from motive.maths.denoising import common_noise

    row = read_table(OUT / "per_clip.parquet").iloc[0]
    where = Path("data/heldout")
    [(_, clip)] = read_clip_tensors(shards.locate(where / "latents"), [row["clip_id"]])
    [(_, mask)] = read_clip_tensors(shards.locate(where / "masks"), [row["clip_id"]])
    model = backbones.load_transformer("model", "float32", "cpu")
    z, W, eps = clip["latent"].float(), mask["mask"].float(), common_noise(0, SHAPE)
    text = backbones.padded([clip["text"].float()], 8)
    losses = []
    for sigma in (0.3, 0.7):
        noised = (1 - sigma) * z + sigma * eps
        with torch.no_grad():
            v = backbones.velocity(model, noised[None], torch.tensor([sigma]), text)[0]
        losses.append((W * (v - (eps - z)) ** 2).mean().item())
    assert row["motion_loss_base"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_each_prompt_has_a_video_of_each_model_and_its_metrics(project):
    table = read_table(OUT / "videos.parquet")
    measured = metrics()
    assert list(table["model"]) == ["base", "base", "tuned", "tuned"]
    assert list(table.columns[5:]) == sorted(MOTION_METRICS)  # in one order, whatever the store's is
    for name in ("base", "tuned"):
        files = [
            f"data/evaluation/videos/{name}/{n}.mp4" for n in ("00-a-red-ball-rolls", "01-a-blue-box-falls")
        ]
        assert sorted(map(str, OUT.glob(f"videos/{name}/*.mp4"))) == files
        assert table.loc[table["model"] == name, "video"].tolist() == files
        for metric in MOTION_METRICS:
            assert measured[f"{metric}_{name}"] == pytest.approx(
                table.loc[table["model"] == name, metric].mean()
            )
    seen = probe(Path(table["video"].tolist()[0]))
    assert (seen.num_frames, seen.height, seen.width) == (5, 32, 32)
    sheet = cv2.imread(str(OUT / "samples.png"))
    assert sheet is not None
    assert sheet.shape[0] > 2 * 64


def test_the_interval_of_videos_is_over_motions_too_where_each_first_frame_has_one():
    changes = np.repeat([-1.0, 0.0, 1.0], 5)
    rows = [
        {"model": model, "index": n, "prompt": "", "motion": f"{n // 5}", "video": "", "speed": value}
        for model, values in (("base", np.zeros(15)), ("tuned", changes))
        for n, value in enumerate(values)
    ]
    nested = evaluation._video_metrics(rows, seed=0)
    plain = evaluation._video_metrics([row | {"motion": ""} for row in rows], seed=0)
    assert nested["speed_change"] == plain["speed_change"] == 0
    assert nested["speed_change_high"] > plain["speed_change_high"] + 0.2


def test_a_sheet_that_can_not_be_drawn_warns_and_changes_no_number(copy, monkeypatch, caplog):
    def refuse(*_):
        raise ValueError("no such frame")

    before = metrics()
    monkeypatch.setattr(generated, "draw_samples", refuse)
    run_stage(evaluation, small_params())
    assert "samples.png is not drawn: no such frame" in caplog.text
    assert metrics() == before


# ---- what is made again


def test_a_second_run_makes_nothing_and_writes_the_same_bytes(copy, calls):
    before = written()
    run_stage(evaluation, small_params())
    assert calls == []
    assert written() == before


def test_other_chunks_in_another_process_change_no_byte(copy, monkeypatch):
    def deal_elsewhere(
        work, chunks, *arguments
    ):  # all that another process is, but for the wait for its imports
        deal(*pickle.loads(pickle.dumps((work, chunks))), *arguments)  # noqa: S301

    before = written()
    shutil.rmtree(".motive")
    monkeypatch.setattr(missing, "deal", deal_elsewhere)
    run_stage(evaluation, small_params(shards={"size": 64}))
    assert written() == before


def test_another_tuned_model_leaves_the_base_models_results(copy, calls):
    before = metrics()
    tune(seed=2)
    run_stage(evaluation, small_params())
    assert {call.split()[1] for call in calls} == {"tuned"}
    assert metrics()["heldout_motion_loss_tuned"] != before["heldout_motion_loss_tuned"]
    assert metrics()["heldout_motion_loss_base"] == before["heldout_motion_loss_base"]


def test_one_more_prompt_costs_one_video_of_each_model(copy, calls):
    Path("prompts.txt").write_text("\n".join(["a red box spins", *PROMPTS]) + "\n")
    run_stage(evaluation, small_params())
    assert calls == ["videos base", "motion base", "videos tuned", "motion tuned"]
    files = sorted(path.name for path in OUT.glob("videos/base/*.mp4"))
    assert files == ["00-a-red-box-spins.mp4", "01-a-red-ball-rolls.mp4", "02-a-blue-box-falls.mp4"]


def test_both_models_start_from_the_same_noise(copy):
    shutil.rmtree("data/finetuning")
    shutil.copytree("model/transformer", "data/finetuning/transformer")
    run_stage(evaluation, small_params())
    measured = metrics()
    assert measured["heldout_motion_loss_change"] == 0
    for path in OUT.glob("videos/base/*.mp4"):
        assert path.read_bytes() == (OUT / "videos/tuned" / path.name).read_bytes()


# ---- what is refused


def test_a_model_that_diverged_is_named_with_advice(copy):
    model = build_transformer(1)
    torch.nn.init.constant_(next(model.parameters()), float("nan"))
    model.save_pretrained("data/finetuning/transformer")
    with pytest.raises(
        ValueError, match=r"tuned model on clip [0-9a-f]{16} is no number: lower finetuning\.learning_rate"
    ):
        run_stage(evaluation, small_params())


def test_clips_that_all_stand_still_are_refused(copy):
    ids = read_table(OUT / "per_clip.parquet")["clip_id"]
    write_masks("heldout", {one: torch.zeros(SHAPE[1:]) for one in ids})
    with pytest.raises(ValueError, match="none of its 5 clips moves"):
        run_stage(evaluation, small_params())


def test_an_unfinished_fine_tuning_is_refused(copy):
    shutil.rmtree("data/finetuning")
    with pytest.raises(ValueError, match="data/finetuning holds neither"):
        run_stage(evaluation, small_params())


# ---- the tuned model


def test_a_lora_is_loaded_onto_the_base(copy):
    transformer = backbones.load_transformer("model", "float32", "cpu")
    add_lora(transformer, 2, seed=0)
    for name, p in transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(0))
    folder = Path("lora")
    save_lora(transformer, folder)
    model = tuned.tuned_model("model", "float32", "cpu", str(folder))
    loaded = tuned.frozen_transformer(model)
    arguments = (torch.randn(1, *SHAPE), torch.tensor([0.5]), torch.randn(1, 8, 64))
    with torch.no_grad():
        expected, base = (
            backbones.velocity(transformer, *arguments),
            tuned.frozen_transformer(tuned.base_model("model", "float32", "cpu")),
        )
        torch.testing.assert_close(backbones.velocity(loaded, *arguments), expected)
        assert not torch.allclose(backbones.velocity(base, *arguments), expected)
    assert not any(p.requires_grad for p in loaded.parameters())


def test_the_sampler_draws_with_the_tuned_transformer(copy):
    base = tuned.base_model("model", "float32", "cpu")
    other = tuned.tuned_model("model", "float32", "cpu", "data/finetuning")
    videos = []
    for model in (base, other):
        pipeline = tuned.sampler(model, "none", "text")
        assert pipeline.transformer is tuned.frozen_transformer(model)
        videos.append(backbones.generate(pipeline, "a ball", (5, 32, 32), 8, 2, 1.0, 0, 8.0))
    assert not np.array_equal(*videos)


def test_the_digest_of_a_tuned_model_sees_every_byte(copy):
    def digest():
        return tuned.tuned_model("model", "float32", "cpu", "data/finetuning").digest

    before = digest()
    [path] = Path("data/finetuning/transformer").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert digest() != before
