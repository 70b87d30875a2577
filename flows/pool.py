"""Makes the work pool of prefect.yaml unless it is there: `python -m flows.pool`.

`prefect work-pool create` would have the server ask a host outside for the same template.
"""

from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

NAME = "motive"


def make_pool() -> None:
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(NAME)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=NAME, type="process", base_job_template=template))


if __name__ == "__main__":
    make_pool()
