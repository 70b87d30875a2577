"""What deploy/ and prefect.yaml say, held against what they must: nothing here runs a container."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from testing.servers import s3
from testing.tiny import ROOT

COMPOSE = YAML(typ="safe").load(ROOT / "deploy/compose.yaml")


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_port_listens_on_this_machine_only(name: str) -> None:
    service = COMPOSE["services"][name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert not re.search(r":latest$|^[\w/]+$", service["image"]), "a version is named"


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_it_comes_back_and_shows_no_secret(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["restart"] == "unless-stopped"
    assert not re.search("PASSWORD|SECRET", service.get("command", "")), "everybody here reads command lines"


def test_secrets_are_empty_and_named() -> None:
    lines = (ROOT / "deploy/example.env").read_text().splitlines()
    example = dict(line.split("=") for line in lines if not line.startswith("#"))
    assert example["POSTGRES_PASSWORD"] == example["AWS_SECRET_ACCESS_KEY"] == ""
    variables = set(re.findall(r"\$\{(\w+)", (ROOT / "deploy/compose.yaml").read_text()))
    assert variables <= example.keys()


def test_the_versions_of_the_servers_are_those_of_the_lock_file() -> None:
    locked = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    text = (ROOT / "deploy/compose.yaml").read_text() + (ROOT / "prefect.yaml").read_text()
    assert f"mlflow=={locked['mlflow']}" in text
    assert f"prefect:{locked['prefect']}-" in text
    assert f"prefect-version: {locked['prefect']}" in text


@pytest.mark.slow
def test_a_bucket_is_made_once(tmp_path: Path) -> None:
    with s3(tmp_path / "log", "other") as env:
        env = {**os.environ, **env}
        for _ in range(2):
            subprocess.run([sys.executable, str(ROOT / "deploy/bucket.py"), "motive"], env=env, check=True)
        read = "import boto3; print(*sorted(b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']))"
        listing = subprocess.run(
            [sys.executable, "-c", read], env=env, capture_output=True, text=True, check=True
        )
    assert listing.stdout.split() == ["motive", "other"]


def test_the_workflow_runs_what_the_readme_says() -> None:
    jobs = YAML(typ="safe").load(ROOT / ".github/workflows/ci.yml")["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert any(command.startswith("make test ") for command in commands)
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_hooks_run_the_fast_tests_with_the_projects_own_tools() -> None:
    repos = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = {hook["id"]: hook["entry"] for repo in repos for hook in repo["hooks"]}
    assert hooks["test-fast"] == "make test-fast"
    assert hooks["ruff-check"].startswith(".venv/bin/ruff check")


def test_the_citation_names_the_version_and_the_paper() -> None:
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["references"][0]["title"] == "Motion Attribution for Video Generation"
