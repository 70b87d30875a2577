"""`python -m flows.ready`, before a worker starts: its pool is there, and no killed run keeps a place."""

import sys

from httpx import TransportError
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.workers.process import ProcessWorker

from flows.dead import tell_of_the_dead

NAME = "motive"  # of the pool, as in prefect.yaml


def main() -> None:
    with get_client(sync_client=True) as client:
        try:
            make_pool(client)
        except TransportError as error:
            address = PREFECT_API_URL.value()
            sys.exit(f"error: no Prefect server answers at {address} ({error}): `make server` starts one")
    for name in tell_of_the_dead():
        print(f"{name} was killed; the next run goes on where it was")


def make_pool(client: SyncPrefectClient) -> None:
    """`prefect work-pool create` would have the server ask a host outside for the same template."""
    try:
        client.read_work_pool(NAME)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=NAME, type="process", base_job_template=template))


if __name__ == "__main__":
    main()
