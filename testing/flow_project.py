"""A small project for the tests of optical flow and masks: rendered videos, and what is made of them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from motive.clips.table import COLUMNS, clip_id, write_clips
from motive.params import Params, load_params
from motive.stages import masks, optical_flow, run_stage
from motive.store import shards
from motive.video.writing import write_video
from toyworld import Clip, draw_clip, sample_scene

REPOSITORY = Path(__file__).parent.parent
KINDS = ("static", "free_fall", "slide", "roll", "bounce", "float")
FLOW = Path("data/pool/optical_flow")
MASKS = Path("data/pool/masks")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each kind of motion, one that the camera moves, one that is broken."""
    folder = tmp_path_factory.mktemp("videos")
    for kind in (*KINDS, "camera_pan"):
        write_video(folder / f"{kind}.mp4", drawn(kind).frames, 12.0)
    (folder / "broken.mp4").write_bytes((folder / "roll.mp4").read_bytes()[:900])
    return folder


def drawn(kind: str) -> Clip:
    return draw_clip(sample_scene(np.random.default_rng(1), kind), 17, 12.0)


@pytest.fixture
def flow_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with as much of a model as masks read."""
    monkeypatch.chdir(tmp_path)
    strides = {"scale_factor_temporal": 4, "scale_factor_spatial": 8}
    Path("model/vae").mkdir(parents=True)
    Path("model/vae/config.json").write_text(json.dumps(strides))
    return tmp_path


def settings(**changed: object) -> Params:
    """params.yaml as shipped, but two clips a shard, one worker, and what is changed: section__key=value."""
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
        file = (f"{kind}.mp4", str(videos), kind, "")
        size = (17, 64, 64, 12.0, 17 / 12, 0.0, 17 / 12)
        rows.append((clip_id(sha256, kind), *file, *size, sha256, 2000))
    write_clips("pool", pd.DataFrame(rows, columns=list(COLUMNS)))
    return {row[3]: row[0] for row in rows}


def run(params: Params) -> None:
    run_stage(optical_flow, params, "pool")
    run_stage(masks, params, "pool")


def tensors(folder: Path) -> dict[str, shards.Tensors]:
    return {name: clip for path in shards.shard_paths(folder) for name, clip in shards.read_shard(path)}
