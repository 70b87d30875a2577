"""Optical flow and masks as stages: real videos in, shards, tables and a picture out."""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from motive.checks import STATS, CheckFailed
from motive.clips.table import COLUMNS, clip_id, write_clips
from motive.images.motion import Panel, colour_wheel, heat_overlay, motion_sheet
from motive.images.png import write_png
from motive.params import Params, load_params
from motive.show import show
from motive.stages import masks, optical_flow, run_stage
from motive.store import shards, work
from motive.store.layout import work_folder
from motive.video.writing import write_video
from toyworld import Clip, draw_clip, sample_scene

REPOSITORY = Path(__file__).parent.parent
KINDS = ("static", "free_fall", "slide", "roll", "bounce", "float")
FLOW, MASKS = Path("data/pool/optical_flow"), Path("data/pool/masks")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for kind in (*KINDS, "camera_pan"):
        write_video(folder / f"{kind}.mp4", drawn(kind).frames, 12.0)
    (folder / "broken.mp4").write_bytes((folder / "roll.mp4").read_bytes()[:900])
    return folder


def drawn(kind: str) -> Clip:
    return draw_clip(sample_scene(np.random.default_rng(1), kind), 17, 12.0)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    strides = {"scale_factor_temporal": 4, "scale_factor_spatial": 8}
    Path("model/vae").mkdir(parents=True)
    Path("model/vae/config.json").write_text(json.dumps(strides))
    return tmp_path


def settings(**changed: object) -> Params:
    """params.yaml as shipped, but two clips a shard, one worker, and what is changed: section_key=value."""
    values: dict[str, Any] = load_params(REPOSITORY / "params.yaml").model_dump()
    values["clips"] |= {"num_frames": 17, "fps": 12.0}
    values |= {"workers": 1, "shards": {"size": 2}}
    values["model"]["path"] = "model"
    for name, value in changed.items():
        section, _, key = name.partition("__")
        values = values | ({section: values[section] | {key: value}} if key else {section: value})
    return Params.model_validate(values)


def use(videos: Path, *kinds: str) -> dict[str, str]:
    """Write the clip table of these videos; kind -> clip_id."""
    rows = []
    for kind in kinds:
        sha256 = hashlib.sha256((videos / f"{kind}.mp4").read_bytes()).hexdigest()
        rows.append(
            (
                clip_id(sha256, kind),
                f"{kind}.mp4",
                str(videos),
                kind,
                "",
                17,
                64,
                64,
                12.0,
                17 / 12,
                0.0,
                17 / 12,
                sha256,
            )
        )
    write_clips("pool", pd.DataFrame(rows, columns=list(COLUMNS)))
    return {row[3]: row[0] for row in rows}


def run(params: Params) -> None:
    run_stage(optical_flow, params, "pool")
    run_stage(masks, params, "pool")


def tensors(folder: Path) -> dict[str, shards.Tensors]:
    return {name: clip for path in shards.shard_paths(folder) for name, clip in shards.read_shard(path)}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_both_stages_write_what_the_contract_says(videos: Path) -> None:
    ids = use(videos, *KINDS)
    run(settings())
    flows, weights = tensors(FLOW), tensors(MASKS)
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
    assert stats[pan]["motion"] > 3 > stats[pan]["own_motion"]
    assert stats[pan]["still"]
    removed, flow = tensors(MASKS), tensors(FLOW)
    assert not removed[pan]["mask"].any()
    assert torch.equal(flow[ids["slide"]]["residual"], flow[ids["slide"]]["flow"])
    assert flow[pan]["residual"].float().norm() < 0.3 * flow[pan]["flow"].float().norm()
    run_stage(masks, settings(masks__camera="keep"), "pool")
    kept = tensors(MASKS)
    assert kept[pan]["mask"].float().mean() > 0.05
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


def test_one_clip_is_shown_by_its_id_or_its_name(videos: Path) -> None:
    ids = use(videos, "camera_pan", "slide")
    run(settings())
    facts, picture = show("slide.mp4", settings(), None)
    assert facts["clip_id"] == ids["slide"]
    assert (facts["split"], facts["motion_kind"], facts["camera"]) == ("pool", "object", "static")
    assert facts["motion_px_per_second"] > 3
    sheet = cv2.imread(str(picture))
    assert sheet is not None
    assert sheet.shape[0] > 4 * 120, "frames, optical flow, the same without the camera, mask"
    assert show(ids["camera_pan"][:8], settings(), Path("pan.png"))[0]["motion_kind"] == "camera"
    assert Path("pan.png").is_file()
    with pytest.raises(ValueError, match="no clip 'nothing' in pool: give a clip_id or a file name"):
        show("nothing", settings(), None)
    with pytest.raises(ValueError, match="2 clips are called ''"):
        show("", settings(), None)


def test_a_clip_without_a_mask_is_not_shown(videos: Path) -> None:
    use(videos, "broken", "slide")
    run(settings())
    with pytest.raises(ValueError, match=r"has no mask: see data/pool/masks/failures\.parquet"):
        show("broken.mp4", settings(), None)


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


# ---- pictures


def test_the_overlay_shows_eight_clips_and_is_always_the_same(videos: Path) -> None:
    use(videos, *KINDS)
    run(settings())
    first = (MASKS / "overlay.png").read_bytes()
    picture = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[0] > 3 * 3 * 120, "three rows of clips, each of three strips"
    run_stage(masks, settings(), "pool")
    assert (MASKS / "overlay.png").read_bytes() == first


def test_the_colour_wheel_shows_direction_and_strength() -> None:
    flow = np.zeros((1, 2, 1, 4), np.float32)
    flow[0, 0, 0] = [0, 2, -2, 4]
    still, right, left, faster = colour_wheel(flow, 2.0)[0, 0].tolist()
    assert still == [255, 255, 255]
    assert right == faster == [255, 0, 0]
    assert left == [0, 255, 255]


def test_heat_leaves_unweighted_frames_grey_and_follows_the_latent_frames() -> None:
    frames = np.full((5, 16, 16, 3), (200, 40, 40), np.uint8)
    mask = np.zeros((2, 2, 2))
    mask[1] = 1
    heat = heat_overlay(frames, mask, 4)
    assert np.ptp(heat[0].reshape(-1, 3), axis=1).max() == 0
    assert np.ptp(heat[1:].reshape(-1, 3), axis=1).min() > 50
    np.testing.assert_array_equal(heat[1], heat[4])


@pytest.mark.parametrize(
    ("num_clips", "size"), [(0, (64, 64)), (1, (64, 64)), (3, (48, 80)), (2, (480, 832))]
)
def test_a_sheet_takes_any_number_and_size(num_clips: int, size: tuple[int, int], tmp_path: Path) -> None:
    frames = np.zeros((5, *size, 3), np.uint8)
    flow = np.zeros((5, 2, size[0] // 8, size[1] // 8))
    panel = Panel(
        "a very long caption " * 20, "1.0 px/s", frames, flow, flow, np.zeros((2, size[0] // 8, size[1] // 8))
    )
    write_png(tmp_path / "sheet.png", motion_sheet([panel] * num_clips, 12.0, 4))
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert max(sheet.shape) < 3000
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".png"] == ["sheet.png"]
