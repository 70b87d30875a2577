"""The rendered world on disk: real videos with the truth beside them, and the same bytes each time."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from testing.toy_scenes import scene_of
from toyworld import MOTIONS, UNLIKE_KINDS, draw_clip
from toyworld.render import order_pool, order_queries, read_truth, take, write_video, write_world

pytestmark = pytest.mark.slow


def test_look_alikes_wear_the_looks_of_their_query():
    queries = list(order_queries(5, (64, 64), 0, "simple"))
    assert all(take(query).scene.looks.background == "plain" for query in queries)
    pool = list(order_pool(400, queries, 0.25, (64, 64), 0, "simple"))
    alike = {order: order.looks_of for order in pool if order.looks_of}
    distractors = [order for order in pool if order.kind not in (*MOTIONS, *UNLIKE_KINDS)]
    assert len(distractors) == 220
    assert len(alike) == 55
    assert set(alike) <= set(distractors)
    for order, query in alike.items():
        worn, model = take(order).scene.looks, take(query).scene.looks
        assert replace(worn, background=model.background) == model
    assert len({order.seed for order in pool + queries}) == len(pool) + len(queries)


def test_video_is_h264_and_near_what_was_drawn(tmp_path):
    clip = draw_clip(scene_of("swing", 1), 24, 24)
    write_video(tmp_path / "clip.mp4", clip.frames, 24)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 24
        assert stream.pix_fmt == "yuv420p"
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert decoded.shape == clip.frames.shape
    luma = [frames.astype(float) @ (0.299, 0.587, 0.114) for frames in (decoded, clip.frames)]
    assert np.sqrt(np.mean((luma[0] - luma[1]) ** 2)) < 4


def digests(folder: Path) -> dict[str, str]:
    """The hash of each file under a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: Path) -> list[dict]:
    """The rows of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_world_is_deterministic_resumes_and_hides_the_kinds(tmp_path):
    wishes: dict[str, Any] = {"num_pool": 20, "num_queries_per_motion": 1, "num_heldout": 10, "seed": 4}
    first, second = tmp_path / "first", tmp_path / "second"
    write_world(first, **wishes)
    write_world(second, **wishes)
    assert digests(first) == digests(second)

    # Killed in the middle: the record is not final, a video and the tables are missing, others are kept.
    kept = second / "pool" / "clip_00001.mp4"
    stamp = kept.stat().st_mtime_ns
    (second / "world.json").rename(second / "world.json.part")
    (second / "pool" / "clip_00000.mp4").unlink()
    (second / "pool" / "metadata.jsonl").unlink()
    write_world(second, **wishes)
    assert digests(first) == digests(second)
    assert kept.stat().st_mtime_ns == stamp

    with pytest.raises(ValueError, match="other arguments"):
        write_world(first, **{**wishes, "seed": 5})
    assert {*rows(first / "pool" / "metadata.jsonl")[0]} == {"file_name", "caption"}
    assert {*rows(first / "queries" / "metadata.jsonl")[0]} == {"file_name", "caption", "motion"}
    labels = rows(first / "pool" / "truth" / "labels.jsonl")
    assert len(labels) == 20
    assert sum(label["kind"] in MOTIONS for label in labels) == 8
    assert sum(label["kind"] in UNLIKE_KINDS for label in labels) == 1
    assert sum(not label["true"] for label in labels) == 4
    new = [label["new"] for label in rows(first / "heldout" / "truth" / "labels.jsonl")]
    assert new == [False] * 8 + [True] * 2

    label = rows(first / "heldout" / "truth" / "labels.jsonl")[0]
    truth = read_truth(first / "heldout" / "truth" / label["file_name"].replace("mp4", "safetensors"))
    assert len(truth.mask) == round(label["fps"] * label["duration"])
    assert truth.mask.shape == (*truth.flow.shape[:1], 64, 64)
    assert truth.camera.shape[1:] == (2, 3)


def test_odd_sizes_and_unknown_styles_are_refused(tmp_path):
    with pytest.raises(ValueError, match="odd side"):
        write_world(tmp_path, size=(63, 64))
    with pytest.raises(ValueError, match="use one of simple, rich"):
        write_world(tmp_path, style="baroque")
