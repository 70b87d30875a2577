"""What MLflow knows: each data version once, whole, and comparable; also what failed or was killed."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from motive.errors import TryAgain
from motive.params import load_params
from motive.recording import store
from motive.stages import record
from motive.store.lock import digest, lineage
from testing.recorded_project import client_of, parents, runs_of, write_project
from testing.servers import mlflow_server

pytestmark = pytest.mark.slow

DEAD = "http://127.0.0.1:9"  # the discard port: nobody answers


def test_a_data_version_is_recorded_once_and_whole(finished):
    record.run(load_params())
    marker = Path("data/record/run.json").read_bytes()
    record.run(load_params())
    assert Path("data/record/run.json").read_bytes() == marker
    (run,) = parents(finished)
    client = client_of(finished)

    assert run.info.status == "FINISHED"
    assert run.data.tags["strategy"] == "motive"
    assert run.data.tags["data_version"] == f"{len('data/pool/clips'):032x}.dir"
    assert run.data.params["curation.fraction"] == "0.1"
    assert run.data.metrics["heldout_motion_loss_tuned"] == 0.5
    assert run.data.metrics["masks/pool/mean_still"] == 0.25
    assert run.data.metrics["clips/queries/num_failed"] == 1
    assert len(client.get_metric_history(run.info.run_id, "finetuning/loss")) == 250
    digests = {entry.dataset.name: entry.dataset.digest for entry in run.inputs.dataset_inputs}
    assert digests["pool"] == run.data.tags["data_version"]

    children = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    )
    names = {child.info.run_name for child in children}
    assert names == {"clips", "masks", "attribution", "curation", "finetuning", "evaluation"}

    def artifacts(path: str) -> set[str]:
        return {entry.path for entry in client.list_artifacts(run.info.run_id, path)}

    assert {"ranking.json", "subset.json"} <= artifacts("")
    assert artifacts("version") == {"version/params.yaml", "version/dvc.lock"}
    assert artifacts("model/transformer") == {"model/transformer/config.json"}
    assert artifacts("images/pool/masks") == {"images/pool/masks/overlay.png"}
    assert artifacts("videos/tuned") == {"videos/tuned/a-0.mp4"}
    ranking = json.loads(Path(client.download_artifacts(run.info.run_id, "ranking.json")).read_text())
    assert ranking["data"][0][:2] == ["dd", 0]  # the best first


def test_two_strategies_compare(finished):
    record.run(load_params())
    write_project(finished, strategy="random", loss=0.7)
    record.run(load_params())
    motive, random = parents(finished)
    assert (motive.data.tags["strategy"], random.data.tags["strategy"]) == ("motive", "random")
    assert motive.data.metrics.keys() == random.data.metrics.keys()
    assert motive.data.params.keys() == random.data.params.keys()
    assert motive.data.tags["params_hash"] != random.data.tags["params_hash"]


def test_what_a_killed_record_left_is_replaced(finished, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.set_terminated", killed)
        with pytest.raises(KeyboardInterrupt):
            record.run(load_params())
    record.run(load_params())
    (run,) = parents(finished)
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("step", "failed_before"),
    [
        *((step, False) for step in ("set_tag", "log_batch", "set_terminated")),
        *((step, True) for step in ("set_tag", "update_run", "delete_tag", "log_batch")),
    ],
)
def test_wherever_record_is_killed_one_run_is_left_in_the_end(finished, monkeypatch, step, failed_before):
    def killed(*_, **__):
        raise KeyboardInterrupt

    if failed_before:
        record.fail(load_params(), "curation", "error")
    with monkeypatch.context() as patch:
        patch.setattr(f"mlflow.MlflowClient.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            record.run(load_params())
    record.run(load_params())
    assert [run.info.status for run in runs_of(finished)] == ["FINISHED"]


def test_a_stage_that_is_left_over_does_not_change_the_key(finished):
    lock = YAML(typ="safe").load(Path("dvc.lock").read_text())["stages"]
    kept = lineage(lock, record.ENDS)
    assert "clips@old" in lock
    assert "clips@old" not in kept
    assert digest(kept) == digest(lineage({k: v for k, v in lock.items() if k != "clips@old"}, record.ENDS))
    lock["curation"]["params"]["params.yaml"]["strategy"] = "full"
    assert digest(kept) != digest(lineage(lock | {"curation": {**lock["curation"], "cmd": "x"}}, record.ENDS))


def test_without_a_lock_it_says_what_to_run(finished):
    Path("dvc.lock").unlink()
    with pytest.raises(ValueError, match="dvc repro"):
        record.run(load_params())


def test_an_unreachable_server_is_named_and_costs_no_results(finished, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ValueError, match=r"(?s)127\.0\.0\.1:9.*data/"):
        record.run(load_params())
    assert not Path("data/record/run.json").exists()
    assert Path("data/evaluation/metrics.json").exists()


@pytest.mark.parametrize(
    "address", ["http://bob:s3cret@127.0.0.1:9", "postgresql+psycopg2://bob:s3cret@127.0.0.1:9/mlflow"]
)
def test_nobody_reads_a_password_where_a_server_does_not_answer(finished, monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)
    with pytest.raises(TryAgain) as error:
        record.run(load_params())
    assert "127.0.0.1:9" in str(error.value)
    assert "bob" not in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_deleted_experiment_is_an_error_with_a_way_out(finished):
    record.run(load_params())
    client = client_of(finished)
    client.delete_experiment(parents(finished)[0].info.experiment_id)
    with pytest.raises(ValueError, match=r"record\.experiment"):
        record.run(load_params())


def test_a_temporary_copy_writes_to_the_main_project(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc/tmp/exps/tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert store.project_root() == tmp_path
    monkeypatch.chdir(tmp_path)
    assert store.project_root() == tmp_path


def test_the_store_takes_several_writers(mlflow_store):
    connection = sqlite3.connect(mlflow_store)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


# ---- failed, and gone on


def test_a_failed_run_leaves_a_trace_and_goes_on_in_the_same_run(finished):
    params = load_params()
    client = client_of(finished)
    Path("data/data_docs.html").write_text("which expectation failed")
    for stage in ("sketches@pool", "attribution"):
        record.fail(params, stage, "error: too dark")
    [failed] = runs_of(finished)
    [docs] = client.list_artifacts(failed.info.run_id, "checks")
    assert docs.path == "checks/data_docs.html"
    assert failed.info.status == "FAILED"
    assert (failed.data.tags["failed_stage"], failed.data.tags["reason"]) == (
        "attribution",
        "error: too dark",
    )
    record.run(params)
    [run] = runs_of(finished)
    assert run.info.run_id == failed.info.run_id
    assert run.info.status == "FINISHED"
    assert not {"failed_stage", "reason"} & run.data.tags.keys()
    assert run.data.metrics["heldout_motion_loss_tuned"] == 0.5


def test_another_attempt_has_a_run_of_its_own(finished):
    record.fail(load_params(), "curation", "error")
    write_project(finished, strategy="random")
    record.run(load_params())
    assert sorted(run.info.status for run in runs_of(finished)) == ["FAILED", "FINISHED"]


def test_a_failure_before_anything_was_read_is_told_too(finished):
    (finished / "dvc.lock").unlink()
    shutil.rmtree(finished / "data")
    record.fail(load_params(), "clips@pool", "x" * 100_000)
    [failed] = runs_of(finished)
    assert len(failed.data.tags["reason"]) == store.MAX_TAG


def test_without_mlflow_nothing_is_lost_and_it_is_written_later(finished):
    dead = load_params().model_copy(update={"record": load_params().record.model_copy(update={"uri": DEAD})})
    with pytest.raises(TryAgain, match=r"complete in data/.*`motive record` writes them"):
        record.run(dead)
    record.run(load_params())
    assert len(parents(finished)) == 1


@pytest.fixture(scope="module")
def server(mlflow_store, tmp_path_factory):
    """The address of a real MLflow server."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(mlflow_store, folder)
    database = f"sqlite:///{folder / mlflow_store.name}"
    with mlflow_server(folder / "log", dict(os.environ), database, str(folder / "artifacts")) as address:
        yield address


def test_the_command_says_that_it_may_pass_and_by_hand_it_works_once_a_server_answers(finished, server):
    def record_at(uri: str) -> subprocess.CompletedProcess:
        env = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        command = [sys.executable, "-c", "from motive.cli import main; main()", "record"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    dead = record_at(DEAD)
    assert dead.returncode == 75, dead.stderr
    assert "complete in data/" in dead.stderr
    assert "Traceback" not in dead.stderr
    live = record_at(server)
    assert live.returncode == 0, live.stderr
    key = json.loads(Path("data/record/run.json").read_text())["key"]
    pages = store.pages_of(key, "motive", server)
    assert pages
    assert pages.run.startswith(f"{server}/#/experiments/")
    assert pages.needs == ""
