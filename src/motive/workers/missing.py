"""Makes what the work store lacks: the chunks that are missing of each job, dealt to the workers."""

from collections.abc import Sequence

from motive.params import Machine
from motive.store.jobs import Chunk, Job
from motive.workers.deal import deal


def make_missing(jobs: Sequence[Job], machine: Machine, device: str = "cpu", label: str = "") -> None:
    """Make what these jobs lack, in their order; `label` stands on the progress bar, else the first job's."""
    chunks = [chunk for job in jobs for chunk in job.missing()]
    total = sum(len(chunk.inputs) for chunk in chunks)
    deal(_make, chunks, machine.workers, total, label or jobs[0].label, device, machine.ray)


def _make(chunk: Chunk) -> int:
    return chunk()
