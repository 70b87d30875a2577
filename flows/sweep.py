"""Several strategies or seeds, one after another: a DVC experiment and an MLflow run each."""

import json
from pathlib import Path
from typing import Annotated, TypeVar

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.checkout import checkout
from flows.pipeline import motive_pipeline
from motive.params import Count, Fraction, Positive, Seed, Strategy

Item = TypeVar("Item")
Some = Annotated[list[Item], Field(min_length=1)]
METRICS = Path("data/evaluation/metrics.json")
SHOWN = ("heldout_motion_loss_change", "heldout_motion_loss_change_low", "heldout_motion_loss_change_high")


@flow(name="sweep")
def sweep(
    strategies: Some[Strategy] = ["motive", "random"],  # noqa: B006
    seeds: Some[Seed] = [0],  # noqa: B006
    fraction: Fraction | None = None,
    stage_hours: Positive = 24,
    side_by_side: Count | None = None,
) -> State:
    """Run every strategy with every seed. What they share is computed once; `dvc exp show` lists them.

    One that fails keeps no other from running. At the end params.yaml is as before.

    Args:
        strategies: Who chooses the clips (curation.strategy).
        seeds: Of a random choice, and of the training.
        fraction: The budget: which part of the pool is chosen; empty: as in params.yaml.
        stage_hours: A stage that takes longer is stopped.
        side_by_side: Stages at once, where they need not wait; empty: 2 on a CPU, 1 on a card.
    """
    log = get_run_logger()
    rows, failed = [], []
    with checkout({}):
        for strategy, seed in ((strategy, seed) for strategy in strategies for seed in seeds):
            name = f"{strategy}-seed-{seed}" + (f"-{fraction:g}".replace(".", "_") if fraction else "")
            chosen = {"strategy": strategy, "seed": seed, "fraction": fraction}
            state = motive_pipeline(
                **chosen,
                stage_hours=stage_hours,
                side_by_side=side_by_side,
                experiment=name,
                return_state=True,
            )
            if not state.is_completed():
                log.error("%s failed: %s", name, state.message)
                failed.append(name)
                continue
            metrics = json.loads(METRICS.read_text())
            rows.append({"experiment": name, **{key: metrics.get(key) for key in SHOWN}})
            create_table_artifact(rows, key="sweep", description="Change of the motion loss, 95 % interval")
    if failed:
        return Failed(message=f"failed: {', '.join(failed)}; see their flow runs")
    return Completed(message=f"{len(rows)} experiments")
