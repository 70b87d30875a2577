"""What tasks and flows share: how often a command is tried, and how it is told of."""

import subprocess
from collections.abc import Iterable
from typing import Any

from prefect import get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.tasks import exponential_backoff

from flows.commands import STOP, StageFailed

RETRIES = 3
FIRST_DELAY = 10  # seconds; doubles with each retry
ERRORS = ("error:", "ERROR:")


def may_pass(_task: Any, _run: Any, state: State) -> bool:
    """Whether a task that failed is tried again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailed) and error.may_pass and not STOP.is_set()


ALWAYS: dict[str, Any] = {
    "cache_policy": NO_CACHE,  # DVC is the cache
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(FIRST_DELAY),
    "retry_jitter_factor": 0.5,
}
WHERE_IT_MAY_PASS: dict[str, Any] = {**ALWAYS, "retry_condition_fn": may_pass}


def say(line: str) -> None:
    """Pass on a line of a command."""
    log = get_run_logger()
    if line.startswith(ERRORS):
        log.error("%s", line)
    else:
        log.info("%s", line)


def say_all(lines: Iterable[str]) -> None:
    """Pass on what a command says."""
    for line in lines:
        say(line)


def signature() -> dict[str, str]:
    """Who signs an experiment, which is a commit, where nobody has told Git: a worker's machine."""
    if subprocess.run(["git", "config", "user.email"], capture_output=True, check=False).returncode == 0:
        return {}
    return {
        "GIT_AUTHOR_NAME": "motive",
        "GIT_AUTHOR_EMAIL": "motive@localhost",
        "GIT_COMMITTER_NAME": "motive",
        "GIT_COMMITTER_EMAIL": "motive@localhost",
    }
