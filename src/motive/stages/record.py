"""The last stage: gathers what the others wrote and records it in MLflow, once a data version."""

import json
import logging
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd

from motive.checks import check
from motive.params import Params
from motive.recording.champion import FOLDER, MEASURED, PER_CLIP, Measured
from motive.recording.drift import distances, read_profile
from motive.recording.markdown import best_clips
from motive.recording.notes import NOTE, run_note
from motive.recording.records import DataVersion, Record, StageRun
from motive.recording.store import (
    PROFILE,
    RECIPE,
    TABLES,
    VERSION,
    last_profile,
    pages_of,
    write_failure,
    write_record,
)
from motive.recording.system import decisive, read_samples
from motive.store.files import read_table, write_json, write_table
from motive.store.hashes import values_digest
from motive.store.layout import data_folder, stage_folder
from motive.store.lock import LOCK, Lock, digest, lineage, out_digest, read_lock

DATA = data_folder()
OUT = stage_folder("record")
DOCS: tuple[Path, str] = (DATA / "data_docs.html", "checks")  # and its folder in MLflow
# All that matters leads to one of these.
ENDS = [f"{DATA}/{stage}" for stage in ("attribution", "curation", "finetuning", "evaluation")]
MODEL = ("transformer", "pytorch_lora_weights.safetensors")  # what a user can load
NUM_TABLE_ROWS = 10_000  # of the ranking in MLflow's pages; the file beside it is whole
NUM_BEST = 10  # clips in a run's note
NUM_SAMPLES = 8  # generated videos of each model

log = logging.getLogger("motive")


def run(params: Params) -> None:
    """Record the finished data version, with every parameter; a second time finds the first.

    Raises:
        ValueError: there is no dvc.lock, or MLflow can't be reached: the results stay in data/.
    """
    lock = lineage(read_lock(), ENDS)
    key = digest(lock)
    strategy = params.curation.strategy
    stages = _stage_runs(lock, params)
    metrics = _headline(stages) | _drift(lock, params)
    note = run_note(strategy, metrics, best_clips(DATA, NUM_BEST))
    measured = _measured(params)  # writes a file that is recorded
    record = Record(
        key=key,
        attempt=attempt(lock, params),
        name=f"{strategy}-{key[:8]}",
        tags=_tags(lock, params) | {NOTE: note},
        params=flatten(params.model_dump()),
        metrics=metrics,
        stages=[_with_cost(stage, params) for stage in stages],
        datasets=_datasets(lock, params),
        tables=_tables(),
        files=_files(),
        model=f"{params.record.experiment}-{Path(params.model.path).name}",
        measured=measured,
    )
    run_id = write_record(record, params.record.experiment, params.record.uri)
    write_json(OUT / "run.json", {"key": key})
    log.info("record: run %s (%s) in experiment %r", record.name, run_id, params.record.experiment)
    pages = pages_of(key, params.record.experiment, params.record.uri)
    if pages:
        log.info("record: beside other runs%s: %s", pages.needs, pages.compare)


def fail(params: Params, stage: str, reason: str) -> None:
    """Record that a stage failed; when it succeeds, `run` goes on in the same MLflow run.

    Raises:
        TryAgain: MLflow can't be reached.
    """
    lock = read_lock() if LOCK.is_file() else {}
    name = attempt(lock, params)
    tags = _tags(lock, params) | {"failed_stage": stage, "reason": reason}
    title = f"{params.curation.strategy}-{name[:8]}"
    docs = [DOCS] if DOCS[0].is_file() else []
    run_id = write_failure(name, title, tags, docs, params.record.experiment, params.record.uri)
    log.info("record: %s failed; run %s (%s) says so", stage, title, run_id)


# ---- which data version this is


def attempt(lock: Lock, params: Params) -> str:
    """32 hex digits of what is known before the results: parameters, and the pool's clips if read."""
    return digest([decisive(params), out_digest(lock, f"{DATA}/pool/clips")])


def flatten(values: dict, prefix: str = "") -> dict[str, str]:
    """Nested parameters by dotted key, as text."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _tags(lock: Lock, params: Params) -> dict[str, str]:
    tags = {
        VERSION: out_digest(lock, f"{DATA}/pool/clips"),
        RECIPE: values_digest(decisive(params)),
        "strategy": params.curation.strategy,
        "git_commit": _git_commit(),
        "model": params.model.path,
        "device": params.model.device,
        "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "prefect_flow_run": os.environ.get("MOTIVE_FLOW_RUN", ""),
    }
    return {name: value for name, value in tags.items() if value}


def _git_commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _datasets(lock: Lock, params: Params) -> list[DataVersion]:
    datasets = [
        DataVersion(split, out_digest(lock, f"{DATA}/{split}/clips"), source)
        for split, source in params.clips.source.items()
    ]
    return [dataset for dataset in datasets if dataset.digest]


# ---- what the stages have to say


def _stage_runs(lock: Lock, params: Params) -> list[StageRun]:
    """One for each stage that the lock knows, its splits together, in the order of the pipeline."""
    sections = params.model_dump()
    locked = list(dict.fromkeys(name.split("@")[0] for name in lock))
    ordered = [name for name in sections if name in locked]
    ordered += [name for name in locked if name not in sections]
    runs = []
    for name in ordered:
        metrics: dict[str, float] = {}
        for folder in _folders(name):
            metrics |= _numbers(folder)
        runs.append(
            StageRun(
                name=name,
                params=flatten({name: sections.get(name, {})}),
                tags={f"out.{out['path']}": out["md5"] for out in _outs(lock, name)},
                metrics=metrics,
                curves=_curves(DATA / name / "losses.parquet"),
            )
        )
    return runs


def _with_cost(stage: StageRun, params: Params) -> StageRun:
    """With what it cost, which the parent's numbers lack: a stage that came from DVC's cache has none."""
    samples, seconds = read_samples(stage.name, params)
    cost = {"stage_seconds": seconds} if samples else {}
    return replace(stage, samples=samples, metrics=stage.metrics | cost)


def _outs(lock: Lock, name: str) -> list[dict]:
    return [out for stage in lock if stage.split("@")[0] == name for out in lock[stage].get("outs", [])]


def _folders(stage: str) -> list[Path]:
    """data/STAGE, or data/SPLIT/STAGE of each split."""
    return [folder for folder in [DATA / stage, *sorted(DATA.glob(f"*/{stage}"))] if folder.is_dir()]


def _numbers(folder: Path) -> dict[str, float]:
    """The numbers of a stage's JSON files, and how many clips failed; `SPLIT/name` where there are splits."""
    numbers: dict[str, float] = {}
    for path in sorted(folder.glob("*.json")):
        if path.name != "checks.json":
            values = json.loads(path.read_text())
            numbers |= {key: float(value) for key, value in values.items() if type(value) in (int, float)}
    numbers.pop("version", None)  # of a manifest
    failures = folder / "failures.parquet"
    if failures.is_file():
        numbers["num_failed"] = float(len(read_table(failures)))
    stats = folder / "mask_stats.parquet"
    if stats.is_file():
        numbers |= read_table(stats).mean(numeric_only=True).add_prefix("mean_").to_dict()
    prefix = f"{folder.parent.name}/" if folder.parent != DATA else ""
    return {prefix + key: value for key, value in numbers.items()}


def _curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    if not path.is_file():
        return {}
    table = read_table(path)
    steps = table.pop("step").astype(int).tolist()
    return {str(name): list(zip(steps, table[name].astype(float).tolist(), strict=True)) for name in table}


def _headline(stages: list[StageRun]) -> dict[str, float]:
    """All numbers, for comparing; evaluation's under their own names, the others below their stage's."""
    metrics: dict[str, float] = {}
    for stage in stages:
        prefix = "" if stage.name == "evaluation" else f"{stage.name}/"
        metrics |= {prefix + name: value for name, value in stage.metrics.items()}
    return metrics


def _drift(lock: Lock, params: Params) -> dict[str, float]:
    """How far the pool's clips are from those of the data version before; this one's profile is kept."""
    now = read_profile(DATA)
    if now is None:
        return {}
    write_table(OUT / PROFILE, now)
    tags = _tags(lock, params)
    before = last_profile(params.record.experiment, params.record.uri, tags[VERSION], tags[RECIPE])
    if before is None:
        log.info("record: no other data version with these parameters: nothing to drift from")
        before = now.filter(["clip_id"])
    drift = distances(now, before)
    check("drift", drift, file=OUT, threshold=params.record.drift_threshold)
    if drift.empty:
        return {}
    num_new = len(set(now["clip_id"]) - set(before["clip_id"]))
    num_gone = len(set(before["clip_id"]) - set(now["clip_id"]))
    log.info("record: since the data version before, %d clips came, %d went", num_new, num_gone)
    numbers = {f"drift/{row['metric']}": float(row["distance"]) for row in drift.to_dict("records")}
    return numbers | {"drift/num_new": float(num_new), "drift/num_gone": float(num_gone)}


# ---- what is worth looking at, or loading


def _tables() -> dict[str, pd.DataFrame]:
    """By its name in MLflow, the first rows of what there is."""
    paths = {
        "ranking.json": DATA / "attribution/ranking.parquet",
        "subset.json": DATA / "curation/subset.parquet",
    }
    return {
        name: read_table(path).sort_values("rank").head(NUM_TABLE_ROWS)
        for name, path in paths.items()
        if path.is_file()
    }


def _files() -> list[tuple[Path, str]]:
    """What there is of tables, model, images, videos and the way back, each with its place in MLflow."""
    model = DATA / "finetuning"
    files = [
        (Path("params.yaml"), "version"),
        (LOCK, "version"),  # with `dvc checkout` it brings this data version back
        (DATA / "attribution/ranking.parquet", TABLES),
        (DATA / "curation/subset.parquet", TABLES),
        (model / MODEL[0], f"model/{MODEL[0]}"),
        (model / MODEL[1], "model"),
        (DATA / "attribution/confounds.parquet", TABLES),
        (DATA / "evaluation" / PER_CLIP, FOLDER),
        (OUT / MEASURED, FOLDER),
        (OUT / PROFILE, TABLES),
        DOCS,
    ]
    files += [(path, f"images/{path.parent.relative_to(DATA)}") for path in _images()]
    for which in ("base", "tuned"):
        videos = sorted((DATA / "evaluation/videos" / which).glob("*.mp4"))[:NUM_SAMPLES]
        files += [(path, f"videos/{which}") for path in videos]
    return [(path, folder) for path, folder in files if path.exists()]


def _measured(params: Params) -> Measured | None:
    """The losses on held-out clips that move, and how they were measured, which is written beside them."""
    path = DATA / "evaluation" / PER_CLIP
    if not path.is_file():
        return None
    heldout = DATA / params.evaluation.clips
    training = _read_json(DATA / "finetuning/training.json")
    made_by = {
        "base": training.get("inputs", {}).get("model", params.model.path),
        "masks": _read_json(heldout / "masks/manifest.json").get("digest", ""),
        "latents": _read_json(heldout / "latents/manifest.json").get("digest", ""),
        "sigmas": list(params.evaluation.sigmas),
        "noise_seeds": list(params.evaluation.noise_seeds),
    }
    write_json(OUT / MEASURED, made_by)
    return Measured(read_table(path).query("not still"), made_by)


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text()) if path.is_file() else {}


def _images() -> list[Path]:
    folders = [folder for stage in Params.model_fields for folder in _folders(stage)]
    return sorted({path for folder in folders for path in folder.rglob("*.png")})
