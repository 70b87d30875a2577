"""What an earlier version left in MLflow is compared with, or a sentence says why not."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from motive.params import load_params
from motive.recording.champion import CHAMPION, DECIDED
from motive.stages import record
from motive.store.lock import digest, lineage, read_lock
from testing.recorded_project import client_of, losses_per_clip, parents, write
from testing.tiny import ROOT

pytestmark = pytest.mark.slow

OLD_STAGE = "track"  # the name of `record` then: of a section, a run and a command
OLD_MACHINE = {"workers", "ray", "shards", OLD_STAGE}  # sections that decided nothing
NAME = "motive-tiny-wan"
EVALUATION = load_params(ROOT / "params.yaml").evaluation
MEASURED = {
    "base": "models/tiny-wan",
    "masks": "",
    "latents": "",
    "sigmas": list(EVALUATION.sigmas),
    "noise_seeds": list(EVALUATION.noise_seeds),
}


def old_recipe(**changed: object) -> str:
    """The tag `params_hash` as it was made then: it left out the stage's section by its old name."""
    values = load_params().model_dump() | changed
    values[OLD_STAGE] = values.pop("record")
    decisive = {name: value for name, value in values.items() if name not in OLD_MACHINE}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def write_old_run(
    folder: Path, recipe: str, measured: dict, shift: float = 0.02, key: str = "old", version: str = "old"
) -> str:
    """A finished run with a champion's results and a profile, as the earlier version wrote them; its id."""
    client = client_of(folder)
    experiment = client.create_experiment("motive", (folder / "mlartifacts").as_uri())
    tags = {"motive.key": key, "motive.attempt": key, "data_version": version, "params_hash": recipe}
    tags |= {"strategy": "motive", "mlflow.source.name": f"motive {OLD_STAGE}"}
    run_id = client.create_run(experiment, run_name="motive-old", tags=tags).info.run_id
    for stage in ("evaluation", OLD_STAGE):
        child = client.create_run(experiment, run_name=stage, tags={"mlflow.parentRunId": run_id})
        client.set_terminated(child.info.run_id)

    # Artifacts: how good it was, and its clips.
    profile = {"clip_id": ["aa", "zz"], "duration": 9.0, "own_motion": 2.0, "influence": 0.0}
    write(folder / "old/evaluation/per_clip.parquet", losses_per_clip(shift))
    write(folder / "old/evaluation/measured.json", measured)
    write(folder / "old/tables/profile.parquet", pd.DataFrame(profile))
    client.log_artifacts(run_id, str(folder / "old"))
    client.set_terminated(run_id)

    # The registry had no tag that a version was decided on.
    client.create_registered_model(NAME)
    client.create_model_version(NAME, f"runs:/{run_id}/model", run_id, description="the first that improves")
    client.set_registered_model_alias(NAME, CHAMPION, "1")
    return run_id


def champion(folder: Path) -> str:
    return str(client_of(folder).get_model_version_by_alias(NAME, CHAMPION).version)


@pytest.mark.parametrize(
    ("shift", "winner", "why"),
    [
        (0.04, "2", "better than the champion, version 1: motion loss -0.02"),
        (0.01, "1", "not better than the champion, version 1: motion loss +0.01"),
    ],
)
def test_a_champion_of_an_earlier_version_is_compared_with(finished, shift, winner, why):
    write_old_run(finished, old_recipe(), MEASURED)
    write(finished / "data/evaluation/per_clip.parquet", losses_per_clip(shift))
    record.run(load_params())
    assert champion(finished) == winner
    assert str(client_of(finished).get_model_version(NAME, "2").description).startswith(why)


def test_a_champion_that_was_measured_in_another_way_stays_and_a_sentence_says_so(finished, caplog):
    caplog.set_level("INFO")
    write_old_run(finished, old_recipe(), MEASURED | {"sigmas": [0.125]})
    write(finished / "data/evaluation/per_clip.parquet", losses_per_clip(0.04))
    record.run(load_params())
    assert champion(finished) == "1"
    assert (
        f"{NAME} version 2, version 1 stays champion: measured on other clips or in another way"
        in caplog.text
    )


def test_a_data_version_that_was_recorded_before_is_recorded_once(finished, caplog):
    """Its model is champion already, and is not held against itself."""
    caplog.set_level("INFO")
    key = digest(lineage(read_lock(), record.ENDS))
    write(finished / "data/evaluation/per_clip.parquet", losses_per_clip(0.02))
    old = write_old_run(finished, old_recipe(), MEASURED, key=key)
    for _ in range(2):
        record.run(load_params())
    [run] = parents(finished)
    [version] = client_of(finished).search_model_versions(f"name = '{NAME}'")
    assert run.info.run_id == old
    assert "MLflow has this data version already: run motive-old" in caplog.text
    assert version.tags[DECIDED] == "true"
    assert champion(finished) == "1"
    assert "than the champion" not in caplog.text


def test_clips_of_an_earlier_version_are_what_drift_is_looked_for_from(finished):
    write_old_run(finished, old_recipe(), MEASURED)
    record.run(load_params())
    [run] = [run for run in parents(finished) if run.data.tags["motive.key"] != "old"]
    assert run.data.metrics["drift/duration"] == 1
    assert run.data.metrics["drift/num_gone"] == 1
    assert run.data.metrics["drift/num_new"] == 3


def test_clips_of_other_parameters_are_left_out_and_a_sentence_says_so(finished, caplog):
    caplog.set_level("INFO")
    write_old_run(finished, old_recipe(attribution={"method": "centred"}), MEASURED)
    record.run(load_params())
    [run] = [run for run in parents(finished) if run.data.tags["motive.key"] != "old"]
    assert not [name for name in run.data.metrics if name.startswith("drift/")]
    assert "no other data version with these parameters: nothing to drift from" in caplog.text
