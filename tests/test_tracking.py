"""What MLflow knows: each data version once, whole, and comparable. The store is a real sqlite."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from motive import tracking
from motive.adapters.lora import add_lora, save_lora
from motive.errors import TryAgain
from motive.formats.lock import digest, lineage
from motive.formats.markdown import best_clips
from motive.formats.profiles import COLUMNS
from motive.params import load_params
from motive.stages import track
from motive.system import sampled
from motive.tracking.models import Measured, better
from motive.tracking.notes import run_note
from tests.servers import mlflow_server
from tests.tiny import build_transformer, write_pipeline

ROOT = Path(__file__).parents[1]
DEAD = "http://127.0.0.1:9"  # the discard port: nobody answers
CLIP_IDS = ["aa", "bb", "cc", "dd"]
CAPTIONS = ["a ring", "a | <b>box</b>", "|" * 10_000, "a [cat](http://x)"]


def write_project(folder: Path, strategy: str = "motive", loss: float = 0.5) -> None:
    """The files of docs/data.md that `track` reads, for four clips."""
    params = (ROOT / "params.yaml").read_text().replace("strategy: motive ", f"strategy: {strategy} ")
    (folder / "params.yaml").write_text(params)
    data = folder / "data"
    for part in ("pool", "queries", "heldout"):
        clips = {"clip_id": CLIP_IDS, "video": [f"{name}.mp4" for name in CLIP_IDS], "duration": 1.3}
        write(data / part / "clips/clips.parquet", pd.DataFrame(clips | {"caption": CAPTIONS}))
        write(
            data / part / "clips/failures.parquet",
            pd.DataFrame({"file": ["x.mp4"], "reason": ["zero bytes"]}),
        )
        stats = {"clip_id": CLIP_IDS, "coverage": 0.25, "motion": 3.0, "still": [True, False, False, False]}
        write(data / part / "masks/mask_stats.parquet", pd.DataFrame(stats | {"own_motion": 2.0}))
        write(data / part / "masks/manifest.json", {"version": 1, "num_clips": 4, "stage": "masks"})
        write(data / part / "masks/overlay.png", b"png")
    ranking = {"clip_id": CLIP_IDS, "rank": [3, 2, 1, 0], "votes": [0, 1, 2, 3], "ok": True}
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
        f"clips@{part}": stage([f"data/world/{part}"], [f"data/{part}/clips"]) for part in ("pool", "queries")
    }
    stages |= {"masks@pool": stage(["data/pool/clips"], ["data/pool/masks"])}
    stages |= {"attribution": stage(["data/pool/clips", "data/queries/clips"], ["data/attribution"])}
    stages |= {
        "curation": stage(["data/attribution", "data/pool/masks"], ["data/curation"], strategy=strategy)
    }
    stages |= {"finetuning": stage(["data/curation"], ["data/finetuning"])}
    stages |= {
        "evaluation": stage(["data/finetuning"], ["data/evaluation/videos", "data/evaluation/metrics.json"])
    }
    stages |= {"clips@old": stage(["data/world/old"], ["data/old/clips"])}
    with (folder / "dvc.lock").open("w") as file:
        YAML(typ="safe").dump({"schema": "2.0", "stages": stages}, file)


def parents(folder: Path, experiment: str = "motive") -> list:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client.search_runs([found.experiment_id], f"tags.`{tracking.KEY}` != ''", order_by=["start_time"])


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """An empty sqlite store as the project makes it, once: it takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tracking.tracking_uri("")
    return folder / "mlflow.db"


@pytest.fixture
def project(tmp_path, monkeypatch, store) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(store, folder)
    write_project(folder)
    monkeypatch.chdir(folder)
    return folder


def test_a_data_version_is_recorded_once_and_whole(project):
    from mlflow import MlflowClient

    track.run(load_params())
    marker = Path("data/track/run.json").read_bytes()
    track.run(load_params())
    assert Path("data/track/run.json").read_bytes() == marker
    (run,) = parents(project)
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")

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
    assert artifacts("pictures/pool/masks") == {"pictures/pool/masks/overlay.png"}
    assert artifacts("videos/tuned") == {"videos/tuned/a-0.mp4"}
    ranking = json.loads(Path(client.download_artifacts(run.info.run_id, "ranking.json")).read_text())
    assert ranking["data"][0][:2] == ["dd", 0]  # the best first


def test_two_strategies_compare(project):
    track.run(load_params())
    write_project(project, strategy="random", loss=0.7)
    track.run(load_params())
    motive, random = parents(project)
    assert (motive.data.tags["strategy"], random.data.tags["strategy"]) == ("motive", "random")
    assert motive.data.metrics.keys() == random.data.metrics.keys()
    assert motive.data.params.keys() == random.data.params.keys()
    assert motive.data.tags["params_hash"] != random.data.tags["params_hash"]


def test_what_a_killed_track_left_is_replaced(project, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.set_terminated", killed)
        with pytest.raises(KeyboardInterrupt):
            track.run(load_params())
    track.run(load_params())
    (run,) = parents(project)
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("step", "failed_before"),
    [
        *((step, False) for step in ("set_tag", "log_batch", "set_terminated")),
        *((step, True) for step in ("set_tag", "update_run", "delete_tag", "log_batch")),
    ],
)
def test_wherever_track_is_killed_one_run_is_left_in_the_end(project, monkeypatch, step, failed_before):
    def killed(*_, **__):
        raise KeyboardInterrupt

    if failed_before:
        track.fail(load_params(), "curation", "error")
    with monkeypatch.context() as patch:
        patch.setattr(f"mlflow.MlflowClient.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            track.run(load_params())
    track.run(load_params())
    assert [run.info.status for run in runs_of(project)] == ["FINISHED"]


def test_a_stage_that_is_left_over_does_not_change_the_key(project):
    lock = YAML(typ="safe").load(Path("dvc.lock").read_text())["stages"]
    kept = lineage(lock, track.ENDS)
    assert "clips@old" in lock
    assert "clips@old" not in kept
    assert digest(kept) == digest(lineage({k: v for k, v in lock.items() if k != "clips@old"}, track.ENDS))
    lock["curation"]["params"]["params.yaml"]["strategy"] = "full"
    assert digest(kept) != digest(lineage(lock | {"curation": {**lock["curation"], "cmd": "x"}}, track.ENDS))


def test_without_a_lock_it_says_what_to_run(project):
    Path("dvc.lock").unlink()
    with pytest.raises(ValueError, match="dvc repro"):
        track.run(load_params())


def test_an_unreachable_server_is_named_and_costs_no_results(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ValueError, match=r"(?s)127\.0\.0\.1:9.*data/"):
        track.run(load_params())
    assert not Path("data/track/run.json").exists()
    assert Path("data/evaluation/metrics.json").exists()


def test_a_deleted_experiment_is_an_error_with_a_way_out(project):
    from mlflow import MlflowClient

    track.run(load_params())
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    client.delete_experiment(parents(project)[0].info.experiment_id)
    with pytest.raises(ValueError, match=r"track\.experiment"):
        track.run(load_params())


def test_a_temporary_copy_writes_to_the_main_project(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc/tmp/exps/tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert tracking.project_root() == tmp_path
    monkeypatch.chdir(tmp_path)
    assert tracking.project_root() == tmp_path


def test_the_store_takes_several_writers(store):
    connection = sqlite3.connect(store)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


# ---- failed, and gone on


def runs_of(folder: Path) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name("motive")
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


def test_a_failed_run_leaves_a_trace_and_goes_on_in_the_same_run(project):
    params = load_params()
    for stage in ("sketches@pool", "attribution"):
        track.fail(params, stage, "error: too dark")
    [failed] = runs_of(project)
    assert failed.info.status == "FAILED"
    assert (failed.data.tags["failed_stage"], failed.data.tags["reason"]) == (
        "attribution",
        "error: too dark",
    )
    track.run(params)
    [run] = runs_of(project)
    assert run.info.run_id == failed.info.run_id
    assert run.info.status == "FINISHED"
    assert not {"failed_stage", "reason"} & run.data.tags.keys()
    assert run.data.metrics["heldout_motion_loss_tuned"] == 0.5


def test_another_attempt_has_a_run_of_its_own(project):
    track.fail(load_params(), "curation", "error")
    write_project(project, strategy="random")
    track.run(load_params())
    assert sorted(run.info.status for run in runs_of(project)) == ["FAILED", "FINISHED"]


def test_a_failure_before_anything_was_read_is_told_too(project):
    (project / "dvc.lock").unlink()
    shutil.rmtree(project / "data")
    track.fail(load_params(), "clips@pool", "x" * 100_000)
    [failed] = runs_of(project)
    assert len(failed.data.tags["reason"]) == tracking.MAX_TAG


def test_the_page_of_a_run_is_found(project):
    track.run(load_params())
    key = json.loads(Path("data/track/run.json").read_text())["key"]
    [run] = parents(project)
    found = tracking.pages_of(key, "motive", "")
    assert found is not None
    page = f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs"
    assert (found.name, found.run) == (run.info.run_name, f"{page}/{run.info.run_id}")
    assert found.compare.startswith(f"{page}?viewStateShareKey=motive&")
    assert "make ui" in found.needs
    assert tracking.pages_of("0" * 32, "motive", "") is None
    assert tracking.pages_of(key, "another", "") is None


def test_the_view_that_compares_runs_leaves_out_the_stages(project):
    from mlflow import MlflowClient

    track.run(load_params())
    client, (run,) = MlflowClient(f"sqlite:///{project / 'mlflow.db'}"), parents(project)
    tags = client.get_experiment(run.info.experiment_id).tags
    view = json.loads(tags["mlflow.sharedViewState.motive"])
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} == {
        section["uuid"] for section in view["compareRunSections"]
    }
    found = client.search_runs([run.info.experiment_id], view["searchFilter"], order_by=[view["orderByKey"]])
    assert [each.info.run_id for each in found] == [run.info.run_id]
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert run.data.tags["mlflow.source.name"] == "motive track"
    assert run.data.tags["mlflow.user"]


def test_without_mlflow_nothing_is_lost_and_it_is_written_later(project):
    dead = load_params().model_copy(update={"track": load_params().track.model_copy(update={"uri": DEAD})})
    with pytest.raises(TryAgain, match=r"complete in data/.*`motive track` writes them"):
        track.run(dead)
    track.run(load_params())
    assert len(parents(project)) == 1


def test_what_stages_cost_is_in_their_runs_and_changes_no_key_and_no_headline(project):
    from mlflow import MlflowClient

    params = load_params()
    with sampled("masks@pool", params), sampled("curation", params):
        pass
    track.run(params)
    client, (run,) = MlflowClient(f"sqlite:///{project / 'mlflow.db'}"), parents(project)
    of_parent = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    stages = {each.info.run_name: each for each in client.search_runs([run.info.experiment_id], of_parent)}
    costly = {name for name, each in stages.items() if "stage_seconds" in each.data.metrics}
    assert costly == {"masks", "curation"}
    [cpu] = client.get_metric_history(stages["masks"].info.run_id, "system/cpu_utilization_percentage")
    taken = json.loads(Path(".motive/system/masks@pool.json").read_text())["samples"][0]["time"]
    assert cpu.timestamp == int(taken * 1000)
    assert not [name for name in run.data.metrics if "system/" in name or "seconds" in name]


def test_a_note_says_what_a_run_is_and_how_to_compare(project):
    from mlflow import MlflowClient

    metrics = {"heldout_motion_loss_base": 0.2, "heldout_motion_loss_tuned": 0.1, "num_selected": 1}
    metrics |= {"heldout_motion_loss_change": -0.1, "heldout_motion_loss_change_low": -0.2}
    metrics |= {"heldout_motion_loss_change_high": -0.05, "num_pool": 4}
    write(Path("data/evaluation/metrics.json"), metrics)
    track.run(load_params())
    client, (run,) = MlflowClient(f"sqlite:///{project / 'mlflow.db'}"), parents(project)
    note = run.data.tags["mlflow.note.content"]
    assert "Strategy **motive**: 1 of 4 clips" in note
    assert "**-0.10000** (95 % interval -0.20000 to -0.05000)" in note
    rows = [line for line in note.splitlines() if ".mp4" in line]
    assert [row.count("|") for row in rows] == [6, 6, 6, 6]
    assert rows[0].startswith("| 0 | 3 | +0.200 | dd.mp4 | a &#91;cat&#93;")
    assert "<b>" not in note
    experiment = client.get_experiment(run.info.experiment_id)
    named = set(re.findall(r"`(heldout_\w+)`", experiment.tags["mlflow.note.content"]))
    assert named <= metrics.keys() | {"heldout_plain_loss_base", "heldout_plain_loss_tuned"}

    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "ours")
    track.fail(load_params(), "curation", "error")
    assert client.get_experiment(experiment.experiment_id).tags["mlflow.note.content"] == "ours"


def test_ten_captions_of_nothing_but_markup_fit_into_a_note(tmp_path):
    clips = pd.DataFrame({"clip_id": [str(n) for n in range(10)], "caption": "|" * 999, "video": "|" * 999})
    write(tmp_path / "pool/clips/clips.parquet", clips)
    ranking = clips[["clip_id"]].assign(rank=range(10), votes=1_000_000, influence=-0.123)
    write(tmp_path / "attribution/ranking.parquet", ranking)
    note = run_note("motion_magnitude", {}, best_clips(tmp_path, 10))
    assert len(note) < 8000  # MLflow refuses a longer tag


def test_a_ranking_is_read_back_by_the_line_of_the_readme(project):
    track.run(load_params())
    [line] = [line for line in (ROOT / "README.md").read_text().splitlines() if "mlflow.load_table(" in line]
    code = f"import mlflow; mlflow.set_experiment('motive'); {line}; print(*ranking['clip_id'])"
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == CLIP_IDS[::-1], done.stderr


def with_pool(version: str) -> None:
    """The same project with other clips in its pool, as DVC sees it."""
    yaml = YAML(typ="safe")
    lock = yaml.load(Path("dvc.lock").read_text())
    lock["stages"]["clips@pool"]["outs"][0]["md5"] = version
    with Path("dvc.lock").open("w") as file:
        yaml.dump(lock, file)


def test_the_profile_of_the_data_version_before_is_found(project):
    def last(version: str) -> list[float] | None:
        found = tracking.last_profile("motive", "", version, recipe)
        return None if found is None else found["duration"].tolist()

    recipe = "none yet"
    assert last("a") is None
    for version, duration in (("a", 1.0), ("b", 2.0)):
        with_pool(version)
        clips = pd.read_parquet("data/pool/clips/clips.parquet").assign(duration=duration)
        write(Path("data/pool/clips/clips.parquet"), clips)
        track.run(load_params())
    recipe = parents(project)[0].data.tags["params_hash"]
    track.fail(load_params(), "curation", "error")  # has no profile
    assert (last("b"), last("c"), last("a")) == ([1.0] * 4, [2.0] * 4, [2.0] * 4)
    found = tracking.last_profile("motive", "", "c", recipe)
    assert found is not None
    assert list(found) == ["clip_id", "duration", "own_motion", "influence"]


def test_drift_is_metrics_a_warning_and_a_part_of_the_page(project, caplog):
    for version, duration in (("a", 1.0), ("b", 1.5)):
        with_pool(version)
        ids = [f"{version}{n:02}" for n in range(30)] + CLIP_IDS
        for path, column in COLUMNS.items():
            table = pd.read_parquet(Path("data") / path).iloc[:1].drop(columns="clip_id")
            table = table.merge(pd.Series(ids, name="clip_id"), how="cross").assign(rank=range(34))
            write(Path("data") / path, table.assign(duration=duration) if column == "duration" else table)
        track.run(load_params())
    found = {run.data.tags["data_version"]: run.data.metrics for run in parents(project)}
    drift = {name: value for name, value in found["b"].items() if name.startswith("drift/")}
    assert drift == {
        "drift/duration": 1,
        "drift/own_motion": 0,
        "drift/influence": 0,
        "drift/num_new": 30,
        "drift/num_gone": 30,
    }
    assert not [name for name in found["a"] if name.startswith("drift/")]
    [warning] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "1 of 3 rows: duration (1.0). What to do: look at the clips" in warning
    page = Path("data/data_docs.html").read_text()
    assert "1 warned" in page
    assert "1 of 1 gates hold" in page, "it stops nothing"

    params = load_params()
    others = params.model_copy(update={"curation": params.curation.model_copy(update={"seed": 9})})
    with_pool("c")
    track.run(others)
    [run] = [run for run in parents(project) if run.data.tags["data_version"] == "c"]
    assert "drift/duration" not in run.data.metrics
    assert "warned" not in Path("data/data_docs.html").read_text()


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    """The address of a real MLflow server."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(store, folder)
    database = f"sqlite:///{folder / store.name}"
    with mlflow_server(folder / "log", dict(os.environ), database, str(folder / "artifacts")) as address:
        yield address


def test_the_command_says_that_it_may_pass_and_by_hand_it_works_once_a_server_answers(project, server):
    def track_at(uri: str) -> subprocess.CompletedProcess:
        env = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        command = [sys.executable, "-c", "from motive.cli import main; main()", "track"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    dead = track_at(DEAD)
    assert dead.returncode == 75, dead.stderr
    assert "complete in data/" in dead.stderr
    assert "Traceback" not in dead.stderr
    live = track_at(server)
    assert live.returncode == 0, live.stderr
    key = json.loads(Path("data/track/run.json").read_text())["key"]
    found = tracking.pages_of(key, "motive", server)
    assert found
    assert found.run.startswith(f"{server}/#/experiments/")
    assert found.needs == ""


# ---- models


def per_clip(shift: float, ids: str = "c") -> pd.DataFrame:
    """Losses of 50 clips; the tuned model's are lower by `shift`, more or less."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.1, 0.2, 50)
    tuned = base - shift + 0.01 * rng.standard_normal(50)
    names = [f"{ids}{n}" for n in range(50)]
    columns = {"clip_id": names, "motion_loss_base": base, "motion_loss_tuned": tuned, "still": False}
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("new", "old", "wins", "why"),
    [
        (Measured(per_clip(0.02), {}), None, True, "the first that improves"),
        (Measured(per_clip(0.0), {}), None, False, "does not improve on its base"),
        (
            Measured(per_clip(0.04), {}),
            Measured(per_clip(0.02), {}),
            True,
            "better than the champion, version 7",
        ),
        (Measured(per_clip(0.02), {}), Measured(per_clip(0.04), {}), False, "not better"),
        (Measured(per_clip(0.02), {}), Measured(per_clip(0.02), {}), False, "not better"),
        (Measured(per_clip(0.04), {}), Measured(per_clip(0.02, "d"), {}), False, "other clips"),
        (Measured(per_clip(0.04), {"sigmas": [0.5]}), Measured(per_clip(0.02), {}), False, "another way"),
    ],
)
def test_the_champion_moves_only_if_the_evaluation_says_so(new, old, wins, why):
    assert better(new, old, "7", "motive-tiny")[0] == wins
    assert why in better(new, old, "7", "motive-tiny")[1]


def test_models_are_registered_once_and_the_champion_is_the_best_yet(project):
    from mlflow import MlflowClient

    client, name = MlflowClient(f"sqlite:///{project / 'mlflow.db'}"), "motive-tiny-wan"
    for strategy, shift in (("motive", 0.02), ("random", 0.01), ("full", 0.05)):
        write_project(project, strategy)
        write(project / "data/evaluation/per_clip.parquet", per_clip(shift))
        for _ in range(2):
            track.run(load_params())
    versions = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda each: int(each.version))
    assert [str(version.version) for version in versions] == ["1", "2", "3"]
    assert [str(version.description).partition(":")[0] for version in versions] == [
        "the first that improves on its base",
        "not better than the champion, version 1",
        "better than the champion, version 1",
    ]
    assert client.get_registered_model(name).aliases["champion"] in ("3", 3)


def load_back(project: Path, monkeypatch) -> str:
    """Record what data/finetuning holds, and get it as README's lines do."""
    from mlflow.artifacts import download_artifacts

    write(project / "data/evaluation/per_clip.parquet", per_clip(0.02))
    track.run(load_params())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / 'mlflow.db'}")
    return download_artifacts("models:/motive-tiny-wan@champion")


def test_a_champion_is_loaded_back_by_one_line(project, monkeypatch):
    import torch
    from diffusers import WanTransformer3DModel  # type: ignore[attr-defined]

    built = build_transformer(seed=3)
    built.save_pretrained("data/finetuning/transformer")
    folder = load_back(project, monkeypatch)
    loaded = WanTransformer3DModel.from_pretrained(folder, subfolder="transformer").state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in built.state_dict().items())


def test_a_champion_that_is_a_lora_is_loaded_back_by_one_line(project, monkeypatch):
    import torch
    from diffusers import WanPipeline  # type: ignore[attr-defined]
    from peft.utils import get_peft_model_state_dict

    shutil.rmtree("data/finetuning/transformer")
    write_pipeline(project / "model")
    trained = WanPipeline.from_pretrained(project / "model").transformer
    add_lora(trained, rank=2, seed=0)
    for n, weight in enumerate(p for p in trained.parameters() if p.requires_grad):
        torch.nn.init.normal_(weight, std=1 + n)
    save_lora(trained, Path("data/finetuning"))
    pipe = WanPipeline.from_pretrained(project / "model")
    pipe.load_lora_weights(load_back(project, monkeypatch))
    expected = get_peft_model_state_dict(trained)
    loaded = get_peft_model_state_dict(pipe.transformer, adapter_name="default_0")
    assert expected.keys() == loaded.keys()
    assert all(torch.equal(value, loaded[key]) for key, value in expected.items())
