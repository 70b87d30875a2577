"""What a terminal shows: log lines and errors on stderr, tables on stdout."""

import logging
import os
import sys
import traceback
from collections.abc import Iterable
from typing import Any

import typer

from motive.errors import TryAgain

TRY_AGAIN = 75  # EX_TEMPFAIL of the system's own programs
TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

log = logging.getLogger("motive")


def run_app(app: typer.Typer) -> None:
    """Run the command; a user's error is one red line on stderr and exit code 1, or 75 if it may pass."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except (ValueError, OSError) as error:  # the system's say which file: no space, no permission, gone
        if os.environ.get("MOTIVE_DEBUG"):
            traceback.print_exc()
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(TRY_AGAIN if isinstance(error, TryAgain) else 1)


def log_to_terminal(debug: bool = False) -> None:
    """Log lines with their time go to stderr."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    log.setLevel(logging.DEBUG if debug else logging.INFO)


def print_table(heads: Iterable[str], rows: Iterable[Iterable[Any]], title: str | None = None) -> None:
    """A table on stdout; without heads, if there are none."""
    from rich.console import Console
    from rich.table import Table

    heads = list(heads)
    table = Table(*heads, show_header=bool(heads), title=title, title_justify="left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(markup=False).print(table)
