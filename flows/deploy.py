"""`python -m flows.deploy`: deploys prefect.yaml; what a person has paused in Prefect stays paused.

`prefect deploy` makes each schedule as the file has it, active again. So it is given a copy of the file in
which what is paused on the server is paused: no schedule is active even for a moment.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from prefect import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.responses import DeploymentResponse
from ruamel.yaml import YAML

from motive.store.layout import state_folder

FILE = Path("prefect.yaml")
AS_DEPLOYED = state_folder() / "prefect.yaml"


def main() -> None:
    yaml = YAML()
    content = yaml.load(FILE)
    for deployment in content["deployments"]:
        for stored in _stored(deployment["name"]):
            keep_paused(deployment, stored)
    AS_DEPLOYED.parent.mkdir(exist_ok=True)
    yaml.dump(content, AS_DEPLOYED)
    deploy = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    sys.exit(subprocess.run([*deploy, "--prefect-file", AS_DEPLOYED], check=False).returncode)


def keep_paused(deployment: dict[str, Any], stored: DeploymentResponse) -> None:
    """Write into a deployment of prefect.yaml what is paused of the same one on the server."""
    if stored.paused:
        deployment["paused"] = True
    active = {_time(schedule.schedule) for schedule in stored.schedules if schedule.active}
    paused = {_time(schedule.schedule) for schedule in stored.schedules} - active
    for schedule in deployment["schedules"]:
        # a paused one that has another time in the file stays paused, too
        if schedule["cron"] in paused or (paused and not active):
            schedule["active"] = False


def _time(schedule: Any) -> str:
    return getattr(schedule, "cron", "")


def _stored(name: str) -> list[DeploymentResponse]:
    """The deployments of this name that the server has: one, or none yet."""
    with get_client(sync_client=True) as client:
        same_name = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
        return client.read_deployments(deployment_filter=same_name)


if __name__ == "__main__":
    main()
