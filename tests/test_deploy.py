"""What deploy/ and prefect.yaml say, held against what they must: nothing here runs a container."""

import re
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from tests.tiny import ROOT

COMPOSE = YAML(typ="safe").load(ROOT / "deploy/compose.yaml")


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_port_listens_on_this_machine_only(name: str) -> None:
    service = COMPOSE["services"][name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert not re.search(r":latest$|^[\w/]+$", service["image"]), "a version is named"


def test_secrets_are_empty_and_named() -> None:
    example = dict(line.split("=") for line in (ROOT / "deploy/example.env").read_text().splitlines()[1:])
    assert example["POSTGRES_PASSWORD"] == example["AWS_SECRET_ACCESS_KEY"] == ""
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "deploy/compose.yaml").read_text()))
    assert asked <= example.keys()


def test_the_versions_of_the_servers_are_those_of_the_lock_file() -> None:
    locked = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    text = (ROOT / "deploy/compose.yaml").read_text() + (ROOT / "prefect.yaml").read_text()
    assert f"mlflow=={locked['mlflow']}" in text
    assert f"prefect:{locked['prefect']}-" in text
    assert f"prefect-version: {locked['prefect']}" in text


def test_accelerate_reads_its_configuration() -> None:
    read = "from accelerate.commands.config.config_args import load_config_from_file as load; print(load(%r))"
    command = [sys.executable, "-c", read % str(ROOT / "deploy/accelerate.yaml")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "num_processes=8" in said
