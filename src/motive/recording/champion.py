"""Fine-tuned models in MLflow's registry: a version for each data version, and who is champion, and why."""

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from motive.maths.statistics import bootstrap_interval

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
DECIDED = "motive.decided"  # tag of a version that was held against the champion
MEASURED = "measured.json"  # how the losses of per_clip.parquet were measured
PER_CLIP = "per_clip.parquet"
FOLDER = "evaluation"  # of the two, in a run's artifacts

log = logging.getLogger("motive")


class Measured(NamedTuple):
    """A model's motion losses on held-out clips, and all that must be equal for two models to be compared.

    `per_clip` has `clip_id`, `motion_loss_base`, `motion_loss_tuned`.
    """

    per_clip: pd.DataFrame
    made_by: dict


def better(new: Measured, old: Measured | None, version: str = "", name: str = "") -> tuple[bool, str]:
    """Whether a model becomes champion, and why: it improved on its base, and beats the champion.

    Both by the paired 95 % interval of the change over the clips: below zero, or it does not count.
    """
    losses: Any = new.per_clip.sort_values("clip_id")
    improves, change = _below_zero(losses["motion_loss_tuned"], losses["motion_loss_base"])
    if not improves:
        return False, f"it does not improve on its base: motion loss {change}"
    if old is None:
        return True, f"the first that improves on its base: motion loss {change}"
    before: Any = old.per_clip.sort_values("clip_id")
    if new.made_by != old.made_by or losses["clip_id"].tolist() != before["clip_id"].tolist():
        return False, (
            f"measured on other clips or in another way than the champion, version {version}; by hand: "
            f'mlflow.MlflowClient().set_registered_model_alias("{name}", "{CHAMPION}", VERSION)'
        )
    ahead, change = _below_zero(losses["motion_loss_tuned"], before["motion_loss_tuned"])
    word = "better" if ahead else "not better"
    return ahead, f"{word} than the champion, version {version}: motion loss {change}"


def _below_zero(new: pd.Series, old: pd.Series) -> tuple[bool, str]:
    """Whether the losses fell for sure, and by how much, in words."""
    change = np.asarray(new, dtype=float) - np.asarray(old, dtype=float)
    low, high = bootstrap_interval(change, 0)
    return high < 0, f"{change.mean():+.5f} (95 % interval {low:+.5f} to {high:+.5f}, {len(change)} clips)"


def register(client: "MlflowClient", run_id: str, name: str, measured: Measured) -> None:
    """Make the model of a run a version of `name`, once, and champion if its evaluation says so.

    The reason stands in the version's description, whichever way it went.
    """
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if versions and DECIDED in versions[0].tags:
        return
    _create_model(client, name)
    champion = _champion(client, name)
    if versions and champion and champion.run_id == run_id:
        # It has won, and was killed before the tag, or is of a time without such tags.
        client.set_model_version_tag(name, str(champion.version), DECIDED, "true")
        return

    # It is a version in any case.
    wins, why = _decide(client, champion, name, measured)
    if versions:
        number = str(versions[0].version)
    else:
        version = client.create_model_version(name, f"runs:/{run_id}/model", run_id, description=why)
        number = str(version.version)
    if wins:
        client.set_registered_model_alias(name, CHAMPION, number)
        log.info("record: %s version %s is champion: %s", name, number, why)
    else:
        stays = f"version {champion.version} stays champion" if champion else "none is champion"
        log.info("record: %s version %s, %s: %s", name, number, stays, why)
    client.set_model_version_tag(name, number, DECIDED, "true")  # last: a killed `record` decides again


def _create_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _decide(
    client: "MlflowClient", champion: "ModelVersion | None", name: str, measured: Measured
) -> tuple[bool, str]:
    """Whether a model beats the champion, if there is one, and why."""
    if champion is None:
        return better(measured, None, name=name)
    old = _read(client, champion.run_id or "")
    wins, why = better(measured, old, str(champion.version), name)
    if old is None:
        why = f"the results of the champion, version {champion.version}, are gone; {why}"
    return wins, why


def _champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    number = client.get_registered_model(name).aliases.get(CHAMPION)
    return client.get_model_version(name, number) if number else None


def _read(client: "MlflowClient", run_id: str) -> Measured | None:
    """What a run's model was measured at, unless somebody has thrown it away."""
    from mlflow.exceptions import MlflowException

    try:
        names = {Path(artifact.path).name for artifact in client.list_artifacts(run_id, FOLDER)}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        names = set()
    if not {PER_CLIP, MEASURED} <= names:
        return None
    with TemporaryDirectory() as folder:
        place = Path(client.download_artifacts(run_id, FOLDER, folder))
        per_clip = pd.read_parquet(place / PER_CLIP).query("not still")
        return Measured(per_clip, json.loads((place / MEASURED).read_text()))
