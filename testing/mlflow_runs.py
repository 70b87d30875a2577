"""The runs that MLflow has of a project."""

from typing import Any


def all_runs(uri: str, experiment: str = "motive") -> list[Any]:
    """Parents and nested runs, the oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    entry = client.get_experiment_by_name(experiment)
    assert entry is not None, f"MLflow has no experiment {experiment}"
    return client.search_runs([entry.experiment_id], order_by=["start_time"])


def parent_runs(uri: str, experiment: str = "motive") -> list[Any]:
    """One run a data version, without the stages' nested runs."""
    return [run for run in all_runs(uri, experiment) if "mlflow.parentRunId" not in run.data.tags]
