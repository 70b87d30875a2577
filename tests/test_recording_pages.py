"""What a person finds in MLflow: pages, notes, rankings, what stages cost, how far the clips have drifted."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from motive.params import load_params
from motive.recording import store
from motive.recording.drift import COLUMNS
from motive.recording.markdown import best_clips
from motive.recording.notes import run_note
from motive.recording.system import sampled
from motive.stages import record
from testing.mlflow_runs import all_runs
from testing.recorded_project import CLIP_IDS, client_of, parents, write
from testing.tiny import ROOT

pytestmark = pytest.mark.slow


def test_the_page_of_a_run_is_found(finished):
    record.run(load_params())
    key = json.loads(Path("data/record/run.json").read_text())["key"]
    [run] = parents(finished)
    pages = store.pages_of(key, "motive", "")
    assert pages is not None
    page = f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs"
    assert (pages.name, pages.run) == (run.info.run_name, f"{page}/{run.info.run_id}")
    assert pages.compare.startswith(f"{page}?viewStateShareKey=motive&")
    assert "make ui" in pages.needs
    assert store.pages_of("0" * 32, "motive", "") is None
    assert store.pages_of(key, "another", "") is None


def test_the_view_that_compares_runs_leaves_out_the_stages(finished):
    record.run(load_params())
    client = client_of(finished)
    [run] = parents(finished)
    tags = client.get_experiment(run.info.experiment_id).tags
    view = json.loads(tags["mlflow.sharedViewState.motive"])
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} == {
        section["uuid"] for section in view["compareRunSections"]
    }
    shown = client.search_runs([run.info.experiment_id], view["searchFilter"], order_by=[view["orderByKey"]])
    assert [each.info.run_id for each in shown] == [run.info.run_id]
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert run.data.tags["mlflow.source.name"] == "motive record"
    assert run.data.tags["mlflow.user"]


def test_what_stages_cost_is_in_their_runs_and_changes_no_key_and_no_headline(finished):
    params = load_params()
    with sampled("masks@pool", params), sampled("curation", params):
        pass
    record.run(params)
    runs = {run.info.run_name: run for run in all_runs(f"sqlite:///{finished / 'mlflow.db'}")}
    assert {name for name in runs if "stage_seconds" in runs[name].data.metrics} == {"masks", "curation"}
    masks = runs["masks"].info.run_id
    [cpu] = client_of(finished).get_metric_history(masks, "system/cpu_utilization_percentage")
    taken = json.loads(Path(".motive/system/masks@pool.json").read_text())["samples"][0]["time"]
    assert cpu.timestamp == int(taken * 1000)
    [run] = parents(finished)
    assert not [name for name in run.data.metrics if "system/" in name or "seconds" in name]


def test_a_note_says_what_a_run_is_and_how_to_compare(finished):
    metrics = {"heldout_motion_loss_base": 0.2, "heldout_motion_loss_tuned": 0.1, "num_selected": 1}
    metrics |= {"heldout_motion_loss_change": -0.1, "heldout_motion_loss_change_low": -0.2}
    metrics |= {"heldout_motion_loss_change_high": -0.05, "num_pool": 4}
    write(Path("data/evaluation/metrics.json"), metrics)
    record.run(load_params())
    client = client_of(finished)
    [run] = parents(finished)
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
    record.fail(load_params(), "curation", "error")
    assert client.get_experiment(experiment.experiment_id).tags["mlflow.note.content"] == "ours"


def test_ten_captions_of_nothing_but_markup_fit_into_a_note(tmp_path):
    clips = pd.DataFrame({"clip_id": [str(n) for n in range(10)], "caption": "|" * 999, "video": "|" * 999})
    write(tmp_path / "pool/clips/clips.parquet", clips)
    ranking = clips[["clip_id"]].assign(rank=range(10), votes=1_000_000, influence=-0.123)
    write(tmp_path / "attribution/ranking.parquet", ranking)
    note = run_note("motion_magnitude", {}, best_clips(tmp_path, 10))
    assert len(note) < 8000  # MLflow refuses a longer tag


def test_a_ranking_is_read_back_by_the_line_of_the_readme(finished):
    record.run(load_params())
    [line] = [line for line in (ROOT / "README.md").read_text().splitlines() if "mlflow.load_table(" in line]
    code = f"import mlflow; mlflow.set_experiment('motive'); {line}; print(*ranking['clip_id'])"
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{finished / 'mlflow.db'}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == CLIP_IDS[::-1], done.stderr


def with_pool(version: str) -> None:
    """The same project with other clips in its pool, as DVC sees it."""
    yaml = YAML(typ="safe")
    lock = yaml.load(Path("dvc.lock").read_text())
    lock["stages"]["clips@pool"]["outs"][0]["md5"] = version
    with Path("dvc.lock").open("w") as file:
        yaml.dump(lock, file)


def test_the_profile_of_the_data_version_before_is_found(finished):
    def last(version: str) -> list[float] | None:
        profile = store.last_profile("motive", "", version, recipe)
        return None if profile is None else profile["duration"].tolist()

    recipe = "none yet"
    assert last("a") is None
    for version, duration in (("a", 1.0), ("b", 2.0)):
        with_pool(version)
        clips = pd.read_parquet("data/pool/clips/clips.parquet").assign(duration=duration)
        write(Path("data/pool/clips/clips.parquet"), clips)
        record.run(load_params())
    recipe = parents(finished)[0].data.tags["params_hash"]
    record.fail(load_params(), "curation", "error")  # has no profile
    assert (last("b"), last("c"), last("a")) == ([1.0] * 4, [2.0] * 4, [2.0] * 4)
    profile = store.last_profile("motive", "", "c", recipe)
    assert profile is not None
    assert list(profile) == ["clip_id", "duration", "own_motion", "influence"]


def test_drift_is_metrics_a_warning_and_a_part_of_the_page(finished, caplog):
    for version, duration in (("a", 1.0), ("b", 1.5)):
        with_pool(version)
        ids = [f"{version}{n:02}" for n in range(30)] + CLIP_IDS
        for path, column in COLUMNS.items():
            table = pd.read_parquet(Path("data") / path).iloc[:1].drop(columns="clip_id")
            table = table.merge(pd.Series(ids, name="clip_id"), how="cross").assign(rank=range(34))
            write(Path("data") / path, table.assign(duration=duration) if column == "duration" else table)
        record.run(load_params())
    metrics = {run.data.tags["data_version"]: run.data.metrics for run in parents(finished)}
    drift = {name: value for name, value in metrics["b"].items() if name.startswith("drift/")}
    assert drift == {
        "drift/duration": 1,
        "drift/own_motion": 0,
        "drift/influence": 0,
        "drift/num_new": 30,
        "drift/num_gone": 30,
    }
    assert not [name for name in metrics["a"] if name.startswith("drift/")]
    [warning] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "1 of 3 rows: duration (1.0). What to do: look at the clips" in warning
    page = Path("data/data_docs.html").read_text()
    assert "1 warned" in page
    assert "1 of 1 gates hold" in page, "it stops nothing"

    params = load_params()
    others = params.model_copy(update={"curation": params.curation.model_copy(update={"seed": 9})})
    with_pool("c")
    record.run(others)
    [run] = [run for run in parents(finished) if run.data.tags["data_version"] == "c"]
    assert "drift/duration" not in run.data.metrics
    assert "warned" not in Path("data/data_docs.html").read_text()
