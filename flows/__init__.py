"""Prefect: when to run, and what happened."""

import os

from motive.terminal import TELEMETRY_OFF

for _name, _value in TELEMETRY_OFF.items():  # before a flow loads MLflow or DVC
    os.environ.setdefault(_name, _value)
