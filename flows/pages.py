"""What a flow run's page in Prefect tells a person: results, or what failed and how to go on."""

import base64
import html
import json
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.commands import StageFailed, run
from motive.checks import warnings
from motive.params import Params
from motive.recording.markdown import best_clips

DATA = Path("data")
TOP = 10  # clips in the table
WIDTH = 1200  # pixels of the picture


def tell_results(outcomes: dict[str, str], params: Params) -> None:
    """Metrics, the best clips, and where to look next, as a markdown artifact."""
    parts = [_links(params), _warnings(), _metrics(), _top_clips(), _picture(), _outcomes(outcomes)]
    text = "\n\n".join(part for part in parts if part)
    create_markdown_artifact(text, key="results", description="What this data version gives")


def tell_failure(failure: StageFailed, params: Params) -> None:
    """Which stage failed at what, and how to go on: a markdown artifact, and a failed run in MLflow."""
    stage, _, said = str(failure).partition(": ")
    lines = said.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("error:")), 0)
    go_on = (
        "It may pass by itself: it was tried again and failed each time. Look at the machine, then run again."
        if failure.may_pass
        else "Mend what it names, then run again."
    )
    go_on += " Nothing done is lost: stages that are done stay done, and "
    go_on += f"`{stage}` goes on at its missing shards."
    reason = "\n".join(lines[start:])
    _failed(stage, reason, f"{go_on}\n\n{_data_docs()}")
    try:
        for line in run(["motive", "record", "--failed", stage, "--reason", reason[:2000]], 1, {}):
            get_run_logger().info("%s", line)
    except StageFailed as unreachable:
        get_run_logger().warning("the failure is not in MLflow: %s", unreachable)


def tell_of_command(failure: StageFailed) -> None:
    """What could not be fetched or pushed, and how to go on: a markdown artifact."""
    command, _, said = str(failure).lstrip("`").partition("` ")
    go_on = "Nothing done is lost: mend what it names; the next run fetches, and pushes these results, too."
    _failed(command, said, go_on)


def _failed(what: str, said: str, go_on: str) -> None:
    text = f"## {what} failed\n\n<pre>{html.escape(said)}</pre>\n\n**How to go on.** {go_on}"
    create_markdown_artifact(text, key="failure", description=f"{what} failed")


def _links(params: Params) -> str:
    marker = DATA / "record" / "run.json"
    if not marker.is_file():
        return ""
    from motive.recording.store import pages_of  # loads MLflow, for seconds

    key = json.loads(marker.read_text())["key"]
    lines = [_data_docs()]
    try:
        found = pages_of(key, params.record.experiment, params.record.uri)
    except ValueError as unreachable:
        get_run_logger().warning("no link to MLflow: %s", unreachable)
        found = None
    if found:
        beside = f"[beside other runs]({found.compare})"
        docs = f"[data docs]({found.run}/artifacts/checks/data_docs.html)"
        lines.insert(0, f"**MLflow run:** [{found.name}]({found.run}), {beside}, {docs}{found.needs}")
    return "\n\n".join(lines)


def _data_docs() -> str:
    page = DATA / "data_docs.html"
    return (
        f"**Data docs:** `{page.absolute()}`, and under *checks* of the MLflow run" if page.is_file() else ""
    )


def _warnings() -> str:
    return "\n\n".join(f"**Warning:** {html.escape(line)}" for line in warnings())


def _metrics() -> str:
    path = DATA / "evaluation" / "metrics.json"
    if not path.is_file():
        return ""
    metrics = json.loads(path.read_text())
    names = [name.removesuffix("_base") for name in metrics if name.endswith("_base")]
    rows = [
        f"| {name} | {metrics[f'{name}_base']:.5f} | {metrics[f'{name}_tuned']:.5f} |"
        for name in names
        if f"{name}_tuned" in metrics
    ]
    change = [metrics.get(f"heldout_motion_loss_change{end}") for end in ("", "_low", "_high")]
    said = ""
    if None not in change:
        said = "\n\nMotion loss changed by **{:+.5f}** (95 % interval {:+.5f} to {:+.5f}); ".format(*change)
        said += f"it fell on {metrics['heldout_improved_fraction']:.0%} of the held-out clips that move."
    return "## Base and tuned model\n\n| | base | tuned |\n|---|---|---|\n" + "\n".join(rows) + said


def _top_clips() -> str:
    table = best_clips(DATA, TOP)
    return f"## The best teachers\n\n{table}" if table else ""


def _picture() -> str:
    path = DATA / "attribution/best_and_worst.png"
    if not path.is_file():
        return ""
    from motive.images.motion import thumbnail

    data = base64.b64encode(thumbnail(path, WIDTH)).decode()
    alt = "for each motion a query, its best and its worst clips"
    return f"## Best and worst\n\n![{alt}](data:image/jpeg;base64,{data})"


def _outcomes(outcomes: dict[str, str]) -> str:
    rows = "\n".join(f"| {stage} | {outcome} |" for stage, outcome in outcomes.items())
    return f"## Stages\n\n| stage | |\n|---|---|\n{rows}"
