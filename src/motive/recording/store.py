"""MLflow: a record becomes a run with a nested run for each stage, once, and is looked up again."""

import json
import logging
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from filelock import FileLock

from motive.errors import TryAgain
from motive.recording.champion import register
from motive.recording.notes import EXPERIMENT, NOTE
from motive.recording.numbers import log_numbers
from motive.recording.records import DataVersion, Record
from motive.recording.views import KIND, VIEW, compare_address, compare_view
from motive.store.files import aside

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

KEY = "motive.key"
ATTEMPT = "motive.attempt"
FAILED = ("failed_stage", "reason")  # tags of a run that did not get to its end
MAX_TAG = 4000  # characters of a tag that every store of MLflow keeps
VERSION = "data_version"  # tag: which clips
RECIPE = "params_hash"  # tag: what was done with them
PROFILE = "profile.parquet"  # what drift is looked for in
TABLES = "tables"  # the folder of it and of other tables, in a run's artifacts
MAX_LOOK = 20  # runs that are looked through for a profile: older ones have none
CREDENTIALS = re.compile(r"//[^/@\s]*@")
UI = "http://127.0.0.1:5000"  # what `make ui` serves, where the store is sqlite

log = logging.getLogger("motive")


class Pages(NamedTuple):
    """A run's name and its page, the page that compares it with others, and what is needed to see them."""

    name: str
    run: str
    compare: str
    needs: str


def project_root() -> Path:
    """The main project's folder, also from the temporary copy of it that `dvc exp run --temp` works in."""
    here = Path.cwd()
    copies = (folder for folder in here.parents if folder.parts[-3:] == (".dvc", "tmp", "exps"))
    return next((folder.parents[2] for folder in copies), here)


def tracking_uri(uri: str) -> str:
    """`record.uri`, else MLFLOW_TRACKING_URI, else sqlite in the project, made when it is missing."""
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if chosen:
        return chosen
    store = project_root() / "mlflow.db"
    if not store.exists():
        with FileLock(f"{store}.lock"):
            _make_store(store)
    return f"sqlite:///{store}"


def without_credentials(text: str) -> str:
    """Addresses in a text as anybody may read them."""
    return CREDENTIALS.sub("//", text)


def _make_store(store: Path) -> None:
    """Make the tables, whole or not at all: parallel first users would each make them, and crash."""
    if store.exists():
        return
    with aside(store) as place:
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{place}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"MLflow can't make its database {store}:\n{done.stderr[-2000:]}")
        connection = sqlite3.connect(place)
        connection.execute("PRAGMA journal_mode=WAL")  # several writers: half the waiting
        connection.close()


def write_record(record: Record, experiment: str, uri: str) -> str:
    """Write a record unless it is there already, and return the id of its parent run.

    Raises:
        TryAgain: MLflow can't be reached or refuses; everything stays on disk.
    """
    with _client(uri) as (client, where):
        experiment_id = _experiment_id(client, experiment, where)
        run_id = ""
        for run in client.search_runs([experiment_id], f"tags.`{KEY}` = '{record.key}'"):
            if run.info.status == "FINISHED":
                log.info("record: MLflow has this data version already: run %s", run.info.run_name)
                run_id = run.info.run_id
                break
            _delete(client, experiment_id, run.info.run_id)
        if not run_id:
            run_id = _write(client, experiment_id, record)
        if record.model and record.measured:  # of a finished run only: no other may be thrown away
            register(client, run_id, record.model, record.measured)
        return run_id


def write_failure(
    attempt: str,
    name: str,
    tags: dict[str, str],
    files: list[tuple[Path, str]],
    experiment: str,
    uri: str,
) -> str:
    """Write that a run failed before there were results; its run goes on when the attempt succeeds.

    Raises:
        TryAgain: MLflow can't be reached or refuses.
    """
    with _client(uri) as (client, where):
        experiment_id = _experiment_id(client, experiment, where)
        # One that runs is of a killed `record`.
        run_id = _attempted(client, experiment_id, attempt, "FAILED", "RUNNING")
        if not run_id:
            run_id = client.create_run(experiment_id, run_name=name, tags=_origin()).info.run_id
        for tag, value in {**tags, ATTEMPT: attempt}.items():
            client.set_tag(run_id, tag, value[:MAX_TAG])
        _log_files(client, run_id, files)
        client.set_terminated(run_id, "FAILED")
        return run_id


def pages_of(key: str, experiment: str, uri: str) -> Pages | None:
    """Where a browser shows the run of a record, if there is one."""
    with _client(uri) as (client, where):
        runs = _search(client, experiment, f"tags.`{KEY}` = '{key}'")
        if not runs:
            return None
        run = runs[0].info
        remote = where.startswith("http")
        server = without_credentials(where) if remote else UI
        return Pages(
            name=str(run.run_name),
            run=f"{server}/#/experiments/{run.experiment_id}/runs/{run.run_id}",
            compare=compare_address(server, run.experiment_id),
            needs="" if remote else " (after `make ui`)",
        )


def last_profile(experiment: str, uri: str, version: str, recipe: str) -> pd.DataFrame | None:
    """The profile that the newest finished run of another data version, by the same recipe, has left.

    With other parameters, numbers would differ without any drift.
    """
    others = (
        f"attributes.status = 'FINISHED' and tags.{VERSION} != '{version}' and tags.{RECIPE} = '{recipe}'"
    )
    with _client(uri) as (client, _):
        for run in _search(client, experiment, others):
            profile = _read_profile(client, run.info.run_id)
            if profile is not None:
                return profile
    return None


def _read_profile(client: "MlflowClient", run_id: str) -> pd.DataFrame | None:
    path = f"{TABLES}/{PROFILE}"
    if path not in [artifact.path for artifact in client.list_artifacts(run_id, TABLES)]:
        return None
    with TemporaryDirectory() as folder:
        return pd.read_parquet(client.download_artifacts(run_id, path, folder))


def _search(client: "MlflowClient", experiment: str, query: str) -> "list[Run]":
    """The newest runs of an experiment that answer a query; none if there is no such experiment."""
    place = client.get_experiment_by_name(experiment)
    if place is None:
        return []
    newest = ["attributes.start_time DESC"]
    return list(client.search_runs([place.experiment_id], query, max_results=MAX_LOOK, order_by=newest))


@contextmanager
def _client(uri: str) -> Iterator[tuple["MlflowClient", str]]:
    """A client, and where it looks; what MLflow says against it becomes a sentence."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # not minutes of silence
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError  # of a database that does not answer

    where = tracking_uri(uri)
    try:
        yield MlflowClient(where), where
    except (MlflowException, OperationalError) as error:
        reason = without_credentials(f"MLflow at {where} did not take the results: {str(error)[:500]}")
        raise TryAgain(
            f"{reason}\nThey are complete in data/. Mend that, or change record.uri; "
            "`motive record` writes them then."
        ) from error


def _attempted(client: "MlflowClient", experiment_id: str, attempt: str, *statuses: str) -> str:
    """The id of the newest run of this attempt that is in one of these states; empty if there is none."""
    for run in client.search_runs([experiment_id], f"tags.`{ATTEMPT}` = '{attempt}'"):
        if run.info.status in statuses:
            return run.info.run_id
    return ""


def _experiment_id(client: "MlflowClient", name: str, where: str) -> str:
    local = where == f"sqlite:///{project_root() / 'mlflow.db'}"
    with FileLock(project_root() / "mlflow.db.lock"):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            artifacts = (project_root() / "mlartifacts" / name).as_uri() if local else None
            experiment = client.get_experiment(client.create_experiment(name, artifacts))
    if experiment.lifecycle_stage != "active":
        raise ValueError(
            f"experiment {name!r} was deleted in MLflow: restore it there, or change record.experiment"
        )
    note = EXPERIMENT.format(compare=compare_address(".", experiment.experiment_id))
    wanted = {NOTE: note, **KIND, **experiment.tags, VIEW: compare_view()}  # what a person wrote stays
    for tag, value in wanted.items() - experiment.tags.items():
        client.set_experiment_tag(experiment.experiment_id, tag, value)
    return experiment.experiment_id


def _delete(client: "MlflowClient", experiment_id: str, run_id: str) -> None:
    """Throw away what a killed `record` left."""
    for child in client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"):
        client.delete_run(child.info.run_id)
    client.delete_run(run_id)


def _write(client: "MlflowClient", experiment_id: str, record: Record) -> str:
    """Write the parent run, then a nested run for each stage; returns the parent's id."""
    parent = _start(client, experiment_id, record)
    for tag, value in record.tags.items():
        client.set_tag(parent, tag, value)

    # Numbers. The curves of all stages stand in the parent too, where runs are compared.
    curves = {}
    for stage in record.stages:
        curves |= {f"{stage.name}/{name}": curve for name, curve in stage.curves.items()}
    log_numbers(client, parent, record.params, record.metrics, curves, [])
    client.log_inputs(parent, [_dataset(data) for data in record.datasets])

    # Tables and files.
    for name, table in record.tables.items():
        text = table.select_dtypes("string")  # as objects: MLflow's search for images in it is deprecated
        client.log_table(parent, table.astype(dict.fromkeys(text, object)), name)
    _log_files(client, parent, record.files)

    for stage in record.stages:
        tags = {**stage.tags, "mlflow.parentRunId": parent}
        child = client.create_run(experiment_id, tags=tags, run_name=stage.name).info.run_id
        log_numbers(client, child, stage.params, stage.metrics, stage.curves, stage.samples)
        client.set_terminated(child)
    client.set_terminated(parent)
    return parent


def _log_files(client: "MlflowClient", run_id: str, files: list[tuple[Path, str]]) -> None:
    """Each file or folder into its artifact folder."""
    for path, folder in files:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), folder)
        else:
            client.log_artifact(run_id, str(path), folder)


def _start(client: "MlflowClient", experiment_id: str, record: Record) -> str:
    """A failed run of the same attempt goes on; a new one is named by its first tags, should it be killed."""
    run_id = _attempted(client, experiment_id, record.attempt, "FAILED")
    if not run_id:
        own = {KEY: record.key, ATTEMPT: record.attempt}
        return client.create_run(experiment_id, run_name=record.name, tags=_origin() | own).info.run_id
    client.set_tag(run_id, KEY, record.key)
    client.update_run(run_id, status="RUNNING", name=record.name)
    for tag in FAILED:
        client.delete_tag(run_id, tag)
    return run_id


def _origin() -> dict[str, str]:
    """Who made a run, and from which commit, as MLflow's own functions say it."""
    from mlflow.tracking.context.registry import resolve_tags

    return resolve_tags({"mlflow.source.name": "motive record"})


def _dataset(data: DataVersion) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(data.name, data.digest, "local", json.dumps({"uri": data.source}))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", data.name)])
