"""Several strategies or seeds, one after another: a DVC experiment and an MLflow run each."""

from itertools import product
from typing import Annotated, Any, TypeVar

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.checkout import checkout
from flows.experiments import metrics_of
from flows.pipeline import motive_pipeline
from motive.params import Fraction, Positive, Seed, Strategy

Item = TypeVar("Item")
Some = Annotated[list[Item], Field(min_length=1)]
SHOWN = ("heldout_motion_loss_change", "heldout_motion_loss_change_low", "heldout_motion_loss_change_high")


@flow(name="sweep")
def sweep(
    strategies: Some[Strategy] = ["motive", "random"],  # noqa: B006
    seeds: Some[Seed] = [0],  # noqa: B006
    fraction: Fraction | None = None,
    stage_hours: Positive = 24,
) -> State:
    """Run every strategy with every seed. What they share is computed once; `dvc exp show` lists them.

    One that fails keeps no other from running. params.yaml and the results in the project stay as they are.

    Args:
        strategies: Who chooses the clips (curation.strategy).
        seeds: Of a random choice, and of the training.
        fraction: The budget: which share of the pool is chosen; empty: as in params.yaml.
        stage_hours: A stage that takes longer is stopped.
    """
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    with checkout():
        for strategy, seed in product(strategies, seeds):
            name = experiment_name(strategy, seed, fraction)
            state = motive_pipeline(
                strategy=strategy,
                seed=seed,
                fraction=fraction,
                stage_hours=stage_hours,
                experiment=name,
                return_state=True,
            )
            if not state.is_completed():
                get_run_logger().error("%s failed: %s", name, state.message)
                failed.append(name)
                continue
            metrics = metrics_of(name)
            rows.append({"experiment": name, **{key: metrics.get(key) for key in SHOWN}})
            create_table_artifact(rows, key="sweep", description="Change of the motion loss, 95 % interval")
    if failed:
        return Failed(message=f"failed: {', '.join(failed)}; see their flow runs")
    return Completed(message=f"{len(rows)} experiments")


def experiment_name(strategy: str, seed: int, fraction: float | None) -> str:
    """Without a dot, which Git and DVC would not take everywhere."""
    name = f"{strategy}-seed-{seed}"
    return name if fraction is None else f"{name}-{fraction:g}".replace(".", "_")
