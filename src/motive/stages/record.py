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
from motive.recording.drift import distances
from motive.recording.markdown import best_clips
from motive.recording.notes import NOTE, run_note
from motive.recording.profiles import read_profile
from motive.recording.store import (
    PROFILE,
    RECIPE,
    TABLES,
    VERSION,
    DataVersion,
    Record,
    StageRun,
    last_profile,
    pages_of,
    write_failure,
    write_record,
)
from motive.recording.system import decisive, read_samples
from motive.store.files import read_table, write_json, write_table
from motive.store.hashes import values_digest
from motive.store.lock import LOCK, Lock, digest, lineage, out_digest, read_lock

DATA = Path("data")
OUT = DATA / "record"
DOCS: tuple[Path, str] = (DATA / "data_docs.html", "checks")  # and its folder in MLflow
# All that matters leads to one of these.
ENDS = [f"{DATA}/{stage}" for stage in ("attribution", "curation", "finetuning", "evaluation")]
MODEL = ("transformer", "pytorch_lora_weights.safetensors")  # what a user can load
NUM_TABLE_ROWS = 10_000  # of the ranking in MLflow's pages; the file beside it is whole
NUM_BEST = 10  # clips in a run's note
NUM_SAMPLES = 8  # generated videos of each model

log = logging.getLogger("motive")


def run(params: Params) -> None:
    """Record the finished data version; a second time finds the first.

    Raises:
        ValueError: there is no dvc.lock, or MLflow can't be reached: the results stay in data/.
    """
    lock = lineage(read_lock(), ENDS)
    key = digest(lock)
    measured = _measured(params)
    metrics = _headline(stages := _stage_runs(lock, params)) | _drift(lock, params)
    record = Record(
        key=key,
        attempt=attempt(lock, params),
        name=f"{params.curation.strategy}-{key[:8]}",
        tags=_tags(lock, params)
        | {NOTE: run_note(params.curation.strategy, metrics, best_clips(DATA, NUM_BEST))},
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
    if pages := pages_of(key, params.record.experiment, params.record.uri):
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
        flat |= (
            flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
        )
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
    found = [
        DataVersion(part, out_digest(lock, f"{DATA}/{part}/clips"), source)
        for part, source in params.clips.source.items()
    ]
    return [data for data in found if data.digest]


# ---- what the stages have to say


def _stage_runs(lock: Lock, params: Params) -> list[StageRun]:
    """One for each stage, its parts together."""
    sections, names = params.model_dump(), list(dict.fromkeys(name.split("@")[0] for name in lock))
    order = list(sections)
    return [
        StageRun(
            name=name,
            params=flatten({name: sections.get(name, {})}),
            tags={f"out.{out['path']}": out["md5"] for out in _outs(lock, name)},
            metrics={key: value for folder in _folders(name) for key, value in _numbers(folder).items()},
            curves=_curves(DATA / name / "losses.parquet"),
        )
        for name in sorted(names, key=lambda name: order.index(name) if name in order else len(order))
    ]


def _with_cost(stage: StageRun, params: Params) -> StageRun:
    """With what it cost, which the parent's numbers lack: a stage that came from DVC's cache has none."""
    samples, seconds = read_samples(stage.name, params)
    cost = {"stage_seconds": seconds} if samples else {}
    return replace(stage, samples=samples, metrics=stage.metrics | cost)


def _outs(lock: Lock, name: str) -> list[dict]:
    return [out for stage in lock if stage.split("@")[0] == name for out in lock[stage].get("outs", [])]


def _folders(stage: str) -> list[Path]:
    """data/STAGE, or data/PART/STAGE of each part."""
    return [folder for folder in [DATA / stage, *sorted(DATA.glob(f"*/{stage}"))] if folder.is_dir()]


def _numbers(folder: Path) -> dict[str, float]:
    """The numbers of a stage's JSON files, and how many clips failed; `PART/name` where there are parts."""
    prefix = f"{folder.parent.name}/" if folder.parent != DATA else ""
    numbers: dict[str, float] = {}
    for path in sorted(folder.glob("*.json")):
        values = {} if path.name == "checks.json" else json.loads(path.read_text())
        numbers |= {key: float(value) for key, value in values.items() if type(value) in (int, float)}
    numbers.pop("version", None)  # of a manifest
    if (path := folder / "failures.parquet").is_file():
        numbers["num_failed"] = float(len(read_table(path)))
    if (path := folder / "mask_stats.parquet").is_file():
        numbers |= read_table(path).mean(numeric_only=True).add_prefix("mean_").to_dict()
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
    if (now := read_profile(DATA)) is None:
        return {}
    write_table(OUT / PROFILE, now)
    tags = _tags(lock, params)
    before = last_profile(params.record.experiment, params.record.uri, tags[VERSION], tags[RECIPE])
    if before is None:
        log.info("record: no other data version with these parameters: nothing to drift from")
        before = now.filter(["clip_id"])
    found = distances(now, before)
    check("drift", found, file=OUT, threshold=params.record.drift_threshold)
    if found.empty:
        return {}
    here, there = set(now["clip_id"]), set(before["clip_id"])
    numbers = dict(zip(found["metric"], found["distance"], strict=True))
    numbers |= {"num_new": len(here - there), "num_gone": len(there - here)}
    log.info("record: since the data version before, %(num_new)d clips came, %(num_gone)d went", numbers)
    return {f"drift/{name}": float(value) for name, value in numbers.items()}


# ---- what is worth looking at, or loading


def _tables() -> dict[str, pd.DataFrame]:
    found = {
        "ranking.json": DATA / "attribution/ranking.parquet",
        "subset.json": DATA / "curation/subset.parquet",
    }
    tables = {name: read_table(path) for name, path in found.items() if path.is_file()}
    return {name: table.sort_values("rank").head(NUM_TABLE_ROWS) for name, table in tables.items()}


def _files() -> list[tuple[Path, str]]:
    """What there is of tables, model, pictures, videos and the way back, each with its place in MLflow."""
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
    files += [(path, f"pictures/{path.parent.relative_to(DATA)}") for path in _pictures()]
    for which in ("base", "tuned"):
        videos = sorted((DATA / "evaluation/videos" / which).glob("*.mp4"))[:NUM_SAMPLES]
        files += [(path, f"videos/{which}") for path in videos]
    return [(path, folder) for path, folder in files if path.exists()]


def _measured(params: Params) -> Measured | None:
    """The losses on held-out clips that move, and how they were measured, which is written beside them."""
    if not (path := DATA / "evaluation" / PER_CLIP).is_file():
        return None
    per_clip, heldout = read_table(path), DATA / params.evaluation.clips
    made_of = [
        DATA / "finetuning/training.json",
        heldout / "masks/manifest.json",
        heldout / "latents/manifest.json",
    ]
    made = [json.loads(each.read_text()) if each.is_file() else {} for each in made_of]
    how = {
        "base": made[0].get("inputs", {}).get("model", params.model.path),
        "masks": made[1].get("digest", ""),
        "latents": made[2].get("digest", ""),
        "sigmas": list(params.evaluation.sigmas),
        "noise_seeds": list(params.evaluation.noise_seeds),
    }
    write_json(OUT / MEASURED, how)
    return Measured(per_clip.query("not still"), how)


def _pictures() -> list[Path]:
    stages = Params.model_fields
    return sorted({path for stage in stages for folder in _folders(stage) for path in folder.rglob("*.png")})
