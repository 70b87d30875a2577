"""A small project whose results are there, for tests of what MLflow records. Its store is a real sqlite."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from motive.recording import store
from testing.mlflow_runs import parent_runs
from testing.tiny import ROOT

if TYPE_CHECKING:
    from mlflow import MlflowClient

CLIP_IDS = ["aa", "bb", "cc", "dd"]
CAPTIONS = ["a ring", "a | <b>box</b>", "|" * 10_000, "a [cat](http://x)"]


def write_project(folder: Path, strategy: str = "motive", loss: float = 0.5) -> None:
    """The files of docs/data.md that `record` reads, for four clips."""
    params = (ROOT / "params.yaml").read_text().replace("strategy: motive ", f"strategy: {strategy} ")
    (folder / "params.yaml").write_text(params)
    data = folder / "data"
    for split in ("pool", "queries", "heldout"):
        write_clips_and_masks(data / split)
    ranking = {"clip_id": CLIP_IDS, "rank": [3, 2, 1, 0], "votes": [0, 1, 2, 3], "status": "ok"}
    ranking["influence"] = [-0.1, 0.0, 0.1, 0.2]
    write(data / "attribution/ranking.parquet", pd.DataFrame(ranking))
    write(data / "curation/subset.parquet", pd.DataFrame({"clip_id": ["dd"], "rank": [0], "why": [strategy]}))
    losses = pd.DataFrame({"step": np.arange(250), "loss": np.linspace(1, loss, 250), "learning_rate": 1e-5})
    write(data / "finetuning/losses.parquet", losses)
    write(data / "finetuning/training.json", {"num_steps": 250, "method": "full"})
    write(data / "finetuning/transformer/config.json", {"num_layers": 2})
    write(data / "evaluation/metrics.json", {"heldout_motion_loss_tuned": loss, "num_selected": 1})
    for which in ("base", "tuned"):
        write(data / f"evaluation/videos/{which}/a-0.mp4", b"mp4")
    write_lock(folder, strategy)


def write_clips_and_masks(folder: Path) -> None:
    clips = {"clip_id": CLIP_IDS, "video": [f"{name}.mp4" for name in CLIP_IDS], "duration": 1.3}
    write(folder / "clips/clips.parquet", pd.DataFrame(clips | {"caption": CAPTIONS}))
    write(folder / "clips/failures.parquet", pd.DataFrame({"file": ["x.mp4"], "reason": ["zero bytes"]}))
    stats = {"clip_id": CLIP_IDS, "coverage": 0.25, "motion": 3.0, "still": [True, False, False, False]}
    write(folder / "masks/mask_stats.parquet", pd.DataFrame(stats | {"own_motion": 2.0}))
    write(folder / "masks/manifest.json", {"version": 1, "num_clips": 4, "stage": "masks"})
    write(folder / "masks/overlay.png", b"png")


def write(path: Path, content: pd.DataFrame | dict | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pd.DataFrame):
        content.to_parquet(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def write_lock(folder: Path, strategy: str) -> None:
    def stage(deps: list[str], outs: list[str], **params: str) -> dict:
        return {
            "cmd": "motive",
            "deps": [{"path": path, "md5": f"{'d' * 32}.dir"} for path in deps],
            "params": {"params.yaml": params},
            "outs": [{"path": path, "md5": f"{len(path):032x}.dir"} for path in outs],
        }

    stages = {
        "clips@pool": stage(["data/world/pool"], ["data/pool/clips"]),
        "clips@queries": stage(["data/world/queries"], ["data/queries/clips"]),
        "masks@pool": stage(["data/pool/clips"], ["data/pool/masks"]),
        "attribution": stage(["data/pool/clips", "data/queries/clips"], ["data/attribution"]),
        "curation": stage(["data/attribution", "data/pool/masks"], ["data/curation"], strategy=strategy),
        "finetuning": stage(["data/curation"], ["data/finetuning"]),
        "evaluation": stage(["data/finetuning"], ["data/evaluation/videos", "data/evaluation/metrics.json"]),
        "clips@old": stage(["data/world/old"], ["data/old/clips"]),
    }
    with (folder / "dvc.lock").open("w") as file:
        YAML(typ="safe").dump({"schema": "2.0", "stages": stages}, file)


def parents(folder: Path, experiment: str = "motive") -> list:
    """The runs of data versions."""
    return [run for run in runs_of(folder, experiment) if store.KEY in run.data.tags]


def runs_of(folder: Path, experiment: str = "motive") -> list:
    """The same, and runs of attempts that failed."""
    return parent_runs(f"sqlite:///{folder / 'mlflow.db'}", experiment)


def client_of(folder: Path) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory) -> Path:
    """An empty sqlite store as the project makes it, once: it takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store.tracking_uri("")
    return folder / "mlflow.db"


@pytest.fixture
def finished(tmp_path, monkeypatch, mlflow_store) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(mlflow_store, folder)
    write_project(folder)
    monkeypatch.chdir(folder)
    return folder


def losses_per_clip(shift: float, ids: str = "c") -> pd.DataFrame:
    """Losses of 50 clips on both models; the tuned model's are lower by `shift`, more or less."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.1, 0.2, 50)
    tuned = base - shift + 0.01 * rng.standard_normal(50)
    names = [f"{ids}{n}" for n in range(50)]
    columns = {"clip_id": names, "motion_loss_base": base, "motion_loss_tuned": tuned, "still": False}
    return pd.DataFrame(columns)
