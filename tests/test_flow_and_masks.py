"""Optical flow and masks as stages: real videos in, shards, tables and an image out."""

import hashlib
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from motive.checks import STATS, CheckFailed
from motive.stages import masks, optical_flow, run_stage
from motive.store import work
from motive.store.layout import work_folder
from testing.flow_project import FLOW, KINDS, MASKS, drawn, run, settings, tensors, use

pytestmark = [pytest.mark.usefixtures("flow_project"), pytest.mark.slow]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_both_stages_write_what_the_contract_says(videos: Path) -> None:
    ids = use(videos, *KINDS)
    run(settings())
    flows = tensors(FLOW)
    weights = tensors(MASKS)
    assert list(flows) == list(weights) == sorted(ids.values())
    for flow, mask in zip(flows.values(), weights.values(), strict=True):
        assert (flow["flow"].shape, flow["flow"].dtype) == ((17, 2, 16, 16), torch.float16)
        assert flow["flow"][0].count_nonzero() == 0
        assert (mask["mask"].shape, mask["mask"].dtype) == ((5, 8, 8), torch.float16)
        assert 0 <= mask["mask"].min() <= mask["mask"].max() <= 1
    stats = pd.read_parquet(MASKS / "mask_stats.parquet")
    assert list(stats.columns) == ["clip_id", *STATS]
    assert stats["clip_id"].tolist() == sorted(ids.values())
    still = dict(zip(stats["clip_id"], stats["still"], strict=True))
    assert [kind for kind in KINDS if still[ids[kind]]] == ["static"]
    coverage = dict(zip(stats["clip_id"], stats["coverage"], strict=True))
    assert [kind for kind in KINDS if coverage[ids[kind]] == 0] == ["static"]


def test_the_mask_lies_on_the_moving_object(videos: Path) -> None:
    kinds = ("free_fall", "slide", "float")
    ids = use(videos, *kinds)
    run(settings())
    for kind in kinds:
        clip = drawn(kind)
        moved = clip.mask[:-1] & (np.hypot(*clip.flow[1:].transpose(1, 0, 2, 3)) > 1)
        there = torch.from_numpy(moved.reshape(4, 4, 8, 8, 8, 8).mean((1, 3, 5)))
        mask = tensors(MASKS)[ids[kind]]["mask"][1:].float()
        assert mask[there > 0.5].mean() > 4 * mask[there == 0].mean()


@pytest.mark.parametrize("size", [64, 2])
def test_workers_shards_and_interruptions_change_no_byte(
    size: int, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "MANY", 0)
    use(videos, *KINDS)
    run(settings(shards={"size": size}))
    unbroken = digests(FLOW) | digests(MASKS)
    stores = [path for path in work_folder().glob("*/*/*") if path.suffix == ".safetensors"]
    assert len(stores) == (2 if size == 64 else 6)
    for path in stores[::2]:
        path.unlink()
    run(settings(shards={"size": size}, workers=2))
    assert digests(FLOW) | digests(MASKS) == unbroken


def test_new_clips_cost_only_themselves(videos: Path, caplog: pytest.LogCaptureFixture) -> None:
    use(videos, *KINDS[:3])
    run(settings())
    use(videos, *KINDS)
    with caplog.at_level(logging.INFO, "motive"):
        run(settings())
    assert "optical_flow pool: 3 to make, 3 done before" in caplog.text
    assert "masks pool: 3 to make, 3 done before" in caplog.text


def test_a_clip_that_cant_be_decoded_is_a_row_with_the_reason(videos: Path) -> None:
    ids = use(videos, "broken", "slide", "roll")
    run(settings())
    flow, mask = (pd.read_parquet(folder / "failures.parquet") for folder in (FLOW, MASKS))
    assert flow["clip_id"].tolist() == mask["clip_id"].tolist() == [ids["broken"]]
    assert flow["kind"].iloc[0] == mask["kind"].iloc[0] == "unreadable"
    assert flow["reason"].iloc[0]
    assert mask["reason"].iloc[0] == f"optical_flow: {flow['reason'].iloc[0]}"
    assert tensors(MASKS).keys() == {ids["slide"], ids["roll"]}


def test_nothing_but_broken_clips_gets_through(videos: Path) -> None:
    use(videos, "broken")
    run(settings())
    assert tensors(MASKS) == {}
    assert len(pd.read_parquet(MASKS / "mask_stats.parquet")) == 0


def test_a_video_that_is_gone_stops_the_stage_and_is_no_failure(videos: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / "slide.mp4").write_bytes((videos / "slide.mp4").read_bytes())
    ids = use(lost, "slide")
    (lost / "slide.mp4").rename(tmp_path / "aside.mp4")
    with pytest.raises(ValueError, match=rf"clip {ids['slide']}: .*slide.mp4 is missing"):
        run_stage(optical_flow, settings(), "pool")
    (tmp_path / "aside.mp4").rename(lost / "slide.mp4")
    run(settings())
    assert list(tensors(MASKS)) == [ids["slide"]]


def test_an_image_that_cant_be_drawn_is_a_warning_and_the_masks_are_there(
    videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Masks are made of optical flow: a video that is gone since is missed by the image alone."""
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / "slide.mp4").write_bytes((videos / "slide.mp4").read_bytes())
    ids = use(lost, "slide")
    run(settings())
    (lost / "slide.mp4").unlink()
    with caplog.at_level(logging.WARNING, "motive"):
        run_stage(masks, settings(masks__floor=1.0), "pool")
    assert "overlay.png is not drawn: " in caplog.text
    assert list(tensors(MASKS)) == [ids["slide"]]
    assert not (MASKS / "overlay.png").exists(), "none of an earlier run"


def test_without_masks_every_weight_is_one_and_motion_is_still_measured(videos: Path) -> None:
    use(videos, *KINDS)
    run(settings())
    before = pd.read_parquet(MASKS / "mask_stats.parquet")
    run_stage(masks, settings(masks__enabled=False), "pool")
    after = pd.read_parquet(MASKS / "mask_stats.parquet")
    assert all((clip["mask"] == 1).all() for clip in tensors(MASKS).values())
    assert set(after["coverage"]) == {1.0}
    pd.testing.assert_frame_equal(after.drop(columns="coverage"), before.drop(columns="coverage"))


def test_a_clip_that_only_the_camera_moves_is_labelled_and_has_no_mask(videos: Path) -> None:
    ids = use(videos, "camera_pan", "slide", "static")
    run(settings())
    stats = pd.read_parquet(MASKS / "mask_stats.parquet").set_index("clip_id").to_dict("index")
    kinds = {kind: stats[clip_id]["motion_kind"] for kind, clip_id in ids.items()}
    assert kinds == {"camera_pan": "camera", "slide": "object", "static": "still"}
    pan = ids["camera_pan"]
    assert stats[pan]["camera"] in ("pan", "tilt")
    assert stats[ids["slide"]]["camera"] == "static"
    assert stats[pan]["motion"] > 1 > stats[pan]["own_motion"]
    assert stats[pan]["still"]
    removed = tensors(MASKS)
    flow = tensors(FLOW)
    assert not removed[pan]["mask"].any()
    assert torch.equal(flow[ids["slide"]]["residual"], flow[ids["slide"]]["flow"])
    assert flow[pan]["residual"].float().norm() < 0.3 * flow[pan]["flow"].float().norm()
    run_stage(masks, settings(masks__camera="keep"), "pool")
    kept = tensors(MASKS)
    assert kept[pan]["mask"].float().mean() > 0.02
    assert torch.equal(kept[ids["slide"]]["mask"], removed[ids["slide"]]["mask"])


def test_confidence_weighs_the_mask(videos: Path) -> None:
    """Where the tracker is not sure there is less weight; with the parameter off that changes nothing."""
    ids = use(videos, "slide")
    checked = {"optical_flow__check": True, "masks__percentile": 100.0}
    run(settings(**checked))
    assert tensors(FLOW)[ids["slide"]]["confidence"].min() < 128
    weighed = tensors(MASKS)[ids["slide"]]["mask"].float()
    run_stage(masks, settings(**checked, masks__confidence=False), "pool")
    assert weighed.sum() < 0.98 * tensors(MASKS)[ids["slide"]]["mask"].float().sum()


def test_a_recipe_knows_what_it_was_made_from() -> None:
    def flow_digest(**changed: object) -> str:
        params = settings(**changed)
        return optical_flow.make_recipe(params.clips, params.optical_flow).digest

    def mask_digest(flow: str, **changed: object) -> str:
        params = settings(**changed)
        sections = (params.clips, params.optical_flow, params.masks)
        return masks.make_recipe(*sections, params.model.path, flow).digest

    digest = flow_digest()
    assert flow_digest(masks__floor=0.0) == flow_digest(workers=2) == digest
    changed = [
        flow_digest(clips__fps=8.0),
        flow_digest(optical_flow__preset="fast"),
        flow_digest(optical_flow__stride=8),
    ]
    assert len({digest, *changed}) == 4
    assert mask_digest("a", optical_flow__preset="fast") == mask_digest("a")
    assert mask_digest("b") != mask_digest("a")
    assert mask_digest("a", masks__floor=0.0) != mask_digest("a")


def test_masks_want_finished_flow_of_the_same_clips(videos: Path) -> None:
    use(videos, "slide")
    with pytest.raises(ValueError, match=r"optical_flow has no manifest.json.*run `dvc repro`"):
        run_stage(masks, settings(), "pool")
    run_stage(optical_flow, settings(), "pool")
    ids = use(videos, "slide", "roll")
    with pytest.raises(ValueError, match=f"clip {ids['roll']} has no optical flow; run `dvc repro`"):
        run_stage(masks, settings(), "pool")
    assert not (MASKS / "manifest.json").exists()


def test_clips_that_dont_fit_the_model_are_refused(videos: Path) -> None:
    use(videos, "slide")
    run_stage(optical_flow, settings(), "pool")
    with pytest.raises(ValueError, match=r"clips\.height is 60, but model takes 8 pixels"):
        run_stage(masks, settings(clips__height=60), "pool")
    frames = settings(clips__num_frames=16)
    run_stage(optical_flow, frames, "pool")
    with pytest.raises(ValueError, match=r"clips\.num_frames is 16, .* use 13 or 17"):
        run_stage(masks, frames, "pool")


def test_flow_that_is_not_finite_stops_the_stage(videos: Path) -> None:
    ids = use(videos, "slide", "roll")
    recipe = optical_flow.make_recipe(settings().clips, settings().optical_flow)
    run_stage(optical_flow, settings(), "pool")
    bad = tensors(FLOW)[ids["roll"]]
    bad["flow"] = torch.full_like(bad["flow"], torch.inf)
    shutil.rmtree(work_folder())
    work.write_chunk(recipe, {ids["roll"]: bad}, {})
    with pytest.raises(CheckFailed, match=rf"optical_flow: .*\n- finite: .* 1 of 2 rows: {ids['roll']}"):
        run_stage(optical_flow, settings(), "pool")


def test_the_overlay_shows_eight_clips_and_is_always_the_same(videos: Path) -> None:
    use(videos, *KINDS)
    run(settings())
    first = (MASKS / "overlay.png").read_bytes()
    image = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape[0] > 3 * 3 * 120, "three rows of clips, each of three strips"
    run_stage(masks, settings(), "pool")
    assert (MASKS / "overlay.png").read_bytes() == first
