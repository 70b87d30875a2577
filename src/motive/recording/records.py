"""What a record is: one data version, with what each stage has to say. It knows no MLflow."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from motive.recording.champion import Measured


@dataclass(frozen=True)
class StageRun:
    """What one stage has to say; it becomes a nested run."""

    name: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  # name -> (step, value)
    samples: list[dict[str, float]] = field(default_factory=list)  # `time` in seconds, and numbers by name


@dataclass(frozen=True)
class DataVersion:
    """Clips that went in: `digest` is DVC's hash of their table, `source` the folder they came from."""

    name: str
    digest: str
    source: str


@dataclass(frozen=True)
class Record:
    """One data version. Records with the same `key` are the same, and are written once.

    `attempt` is the same for a run that failed on the way here.
    """

    key: str
    attempt: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    stages: list[StageRun]
    datasets: list[DataVersion] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    files: list[tuple[Path, str]] = field(default_factory=list)  # file or folder -> artifact folder
    model: str = ""  # name in the registry; empty: there is none
    measured: Measured | None = None  # how good that model is
