"""Gates between stages, by Great Expectations, and the page that shows how they went.

A stage ends with `check(NAME, table, **context)`; `SUITES` has the names, and each suite's docstring says
what it wants. `file` names the table, or its folder.
"""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from motive.checks.great_expectations import SHOWN, Outcome, outcomes
from motive.checks.page import PAGE, warnings, write_outcomes, write_page
from motive.checks.suites import STATS, SUITES

__all__ = ["SHOWN", "STATS", "SUITES", "CheckFailed", "check", "warnings"]

log = logging.getLogger("motive")


class CheckFailed(ValueError):
    """A table may not go on; the message says which rows, why, and what to do."""


def check(name: str, table: pd.DataFrame, *, file: Path | str | None = None, **context: Any) -> None:
    """Hold a table against the suite of this name (a key of `SUITES`).

    How it went is written to `checks.json` beside the file, or in the folder, and into data/data_docs.html.

    Expectations that only warn are logged.

    Raises:
        CheckFailed: with every expectation that failed, up to 10 failing rows of each, and what to do.
    """
    if name not in SUITES:
        raise ValueError(f"there is no check {name!r}; it is one of {', '.join(SUITES)}")
    suite, columns = SUITES[name]
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise CheckFailed(f"{file or name}: lacks the columns {', '.join(missing)}: run its stage again")
    results: list[Outcome] = []
    for gate in suite(table, **context):
        results += outcomes(gate)
    see = ""
    if file:
        write_outcomes(Path(file), name, len(table), results)
        see = f"\nsee {PAGE}" if write_page() else ""

    broken = [outcome for outcome in results if not outcome.holds]
    failed = [str(outcome) for outcome in broken if outcome.severity == "critical"]
    if failed:
        raise CheckFailed(f"{file or name}: {len(failed)} expectations failed\n" + "\n".join(failed) + see)
    for outcome in broken:
        log.warning("%s: %s", name, str(outcome).removeprefix("- "))
    num_held = len(results) - len(broken)
    log.info("%s: %d of %d expectations hold for %d rows", name, num_held, len(results), len(table))
