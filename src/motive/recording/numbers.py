"""Parameters and metrics into a run of MLflow, in requests as large as it takes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

MAX_PARAM = 6000  # characters of one parameter that MLflow keeps


def log_numbers(
    client: "MlflowClient",
    run_id: str,
    params: dict[str, str],
    metrics: dict[str, float],
    curves: dict[str, list[tuple[int, float]]],
    samples: list[dict[str, float]],
) -> None:
    """Parameters, metrics, curves by step, and samples by their time."""
    from mlflow.entities import Param

    for some in _batches([Param(name, value[:MAX_PARAM]) for name, value in params.items()], 100):
        client.log_batch(run_id, params=some)
    for some in _batches([*_metrics(metrics, curves), *_timed(samples)], 1000):
        client.log_batch(run_id, metrics=some)


def _batches(items: list, size: int) -> Iterator[list]:
    """As much as MLflow takes in one request."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _metrics(metrics: dict[str, float], curves: dict[str, list[tuple[int, float]]]) -> Iterator["Metric"]:
    from mlflow.entities import Metric
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    for name, value in metrics.items():
        yield Metric(name, value, now, 0)
    for name, curve in curves.items():
        for step, value in curve:
            yield Metric(name, value, now, step)


def _timed(samples: list[dict[str, float]]) -> Iterator["Metric"]:
    """Of samples, each number at the time when it was taken: MLflow's page draws them over that."""
    from mlflow.entities import Metric

    for step, sample in enumerate(samples):
        for name in sample.keys() - {"time"}:
            yield Metric(name, sample[name], int(sample["time"] * 1000), step)
