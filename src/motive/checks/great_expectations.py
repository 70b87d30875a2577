"""The one file that knows Great Expectations: holds a table against expectations, and says how it went."""

import logging
import os
import re
import warnings
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

log = logging.getLogger("motive")
SHOWN = 10  # failing rows that are named
NAMES = ("clip_id", "metric", "step", "file")  # columns that name a row, whichever a table has
FINITE = float(np.finfo(np.float64).max)


class Expectation(NamedTuple):
    """A Great Expectations class by name, its arguments, and what a person does when it fails."""

    kind: str
    arguments: dict[str, Any]
    advice: str
    severity: str = "critical"  # or warning: it is said, and the table goes on


class Gate(NamedTuple):
    """A table and what must hold for it."""

    table: pd.DataFrame
    expectations: list[Expectation]


class Outcome(NamedTuple):
    """What was wanted, whether it holds, what was observed, and what to do if it does not hold: in words."""

    wanted: str
    holds: bool
    observed: str
    advice: str
    severity: str

    def __str__(self) -> str:
        return f"- {self.wanted}: {self.observed}. What to do: {self.advice}"


def outcomes(gate: Gate) -> list[Outcome]:
    """How each expectation of a gate went, in their order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the library, none of ours
        gx, definition = _library()
        suite = gx.ExpectationSuite(
            "gate",
            expectations=[
                getattr(gx.expectations, each.kind)(
                    **each.arguments, severity=each.severity, meta={"place": place}
                )
                for place, each in enumerate(gate.expectations)
            ],
        )
        batch = definition.get_batch(batch_parameters={"dataframe": gate.table})
        naming = [name for name in NAMES if name in gate.table.columns]
        results = batch.validate(
            suite,
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": naming},
        ).results
    ordered = sorted(results, key=lambda each: each.expectation_config.meta["place"])
    return [
        Outcome(
            _wanted(expectation),
            bool(result.success),
            _observed(result),
            expectation.advice,
            expectation.severity,
        )
        for expectation, result in zip(gate.expectations, ordered, strict=True)
    ]


@cache
def _library() -> tuple[Any, Any]:
    """The library, and a batch definition for data frames in a context that lives in memory only."""
    log.info("checks: loading Great Expectations")
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from great_expectations.data_context.types import base

    base.logger.setLevel(logging.ERROR)  # it sets its own level
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = base.ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("motive").add_dataframe_asset("table")
    return gx, asset.add_batch_definition_whole_dataframe("whole")


def _wanted(expectation: Expectation) -> str:
    """E.g. `fps: values to be between (min_value=0.1)`."""
    arguments = expectation.arguments
    kind = expectation.kind.removeprefix("Expect").removeprefix("Column")
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", kind).lower()
    shown = {name: value for name, value in arguments.items() if name != "column" and value != FINITE}
    rest = ", ".join(f"{name}={value}" for name, value in shown.items())
    return f"{arguments.get('column', 'table')}: {words}" + (f" ({rest})" if rest else "")


def _observed(outcome: Any) -> str:
    """E.g. `1 of 9 rows: 3f... (0.0)`, or `9 rows` where all is well."""
    result = outcome.result
    if "element_count" not in result:
        raised = [each for each in outcome.exception_info.values() if isinstance(each, dict)]
        return "; ".join(each["exception_message"] for each in raised) or f"found {result['observed_value']}"
    if outcome.success:
        return f"{result['element_count']} rows"
    rows = result["unexpected_index_list"]
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"{len(rows)} of {result['element_count']} rows: {', '.join(map(_row, rows[:SHOWN]))}{more}"


def _row(row: dict[str, Any]) -> str:
    """A failing row by its name, and the value that failed unless that is the name."""
    name = next((row[column] for column in NAMES if column in row), None)
    values = [value for column, value in row.items() if column not in NAMES]
    return f"{name} ({values[0]})" if values else str(name)
