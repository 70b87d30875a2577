"""What a flow run's page in Prefect tells a person: results, or what failed and how to go on."""

import base64
import html
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.commands import StageFailed, run
from flows.tasks import say_all
from motive.checks import warnings
from motive.params import Params, load_params
from motive.recording.markdown import best_clips
from motive.store.layout import data_folder

DATA = data_folder()
TOP = 10  # clips in the table
WIDTH = 1200  # pixels of the image


def tell_results(outcomes: dict[str, str], params: Params) -> None:
    """Metrics, the best clips, and where to look next, as a markdown artifact."""
    path = DATA / "evaluation" / "metrics.json"
    metrics = json.loads(path.read_text()) if path.is_file() else {}
    _tell(
        _links(params),
        _warnings(),
        _metrics(metrics),
        _top_clips(),
        _image(),
        _outcomes(outcomes),
    )


def tell_experiment(name: str, outcomes: dict[str, str], metrics: dict[str, float]) -> None:
    """What an experiment measured, and how to have its files in the project."""
    _tell(
        f"**DVC experiment:** `{name}`. `dvc exp show` compares it with others; "
        f"`dvc exp apply {name}` brings its parameters and results into the project.",
        _metrics(metrics),
        _outcomes(outcomes),
    )


def _tell(*paragraphs: str) -> None:
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    create_markdown_artifact(text, key="results", description="What this data version gives")


def tell_failure(failure: StageFailed, values: dict[str, Any]) -> None:
    """Which stage failed at what, and how to go on: a markdown artifact, and a failed run in MLflow.

    `values`: dotted keys that are not as in params.yaml.
    """
    advice = "Mend what it names, then run again."
    if failure.may_pass:
        advice = "It may pass by itself: it was tried again and failed each time. "
        advice += "Look at the machine, then run again."
    kept = "Nothing done is lost: stages that are done stay done, and "
    kept += f"`{failure.stage}` goes on at its missing shards."
    _tell_of(failure.stage, failure.text, f"{advice} {kept}\n\n{_data_docs()}")
    with TemporaryDirectory() as folder:
        params = Path(folder) / "params.yaml"
        params.write_text(load_params(changes=values).model_dump_json())  # JSON is YAML
        command = ["motive", "--params", str(params), "record", "--failed", failure.stage]
        try:
            say_all(run([*command, "--reason", failure.text[:2000]], 1, {}))
        except StageFailed as unreachable:
            get_run_logger().warning("the failure is not in MLflow: %s", unreachable)


def tell_of_command(failure: StageFailed) -> None:
    """What could not be fetched or pushed, and how to go on: a markdown artifact."""
    go_on = "Nothing done is lost: mend what it names; the next run fetches, and pushes these results, too."
    _tell_of(failure.command, failure.text, go_on)


def _tell_of(what: str, text: str, go_on: str) -> None:
    page = f"## {what} failed\n\n<pre>{html.escape(text)}</pre>\n\n**How to go on.** {go_on}"
    create_markdown_artifact(page, key="failure", description=f"{what} failed")


def _links(params: Params) -> str:
    marker = DATA / "record" / "run.json"
    if not marker.is_file():
        return ""
    from motive.recording.store import pages_of  # loads MLflow, for seconds

    key = json.loads(marker.read_text())["key"]
    try:
        page = pages_of(key, params.record.experiment, params.record.uri)
    except ValueError as unreachable:
        get_run_logger().warning("no link to MLflow: %s", unreachable)
        page = None
    if not page:
        return _data_docs()
    beside = f"[beside other runs]({page.compare})"
    docs = f"[data docs]({page.run}/artifacts/checks/data_docs.html)"
    links = f"**MLflow run:** [{page.name}]({page.run}), {beside}, {docs}{page.needs}"
    return f"{links}\n\n{_data_docs()}"


def _data_docs() -> str:
    page = DATA / "data_docs.html"
    return (
        f"**Data docs:** `{page.absolute()}`, and under *checks* of the MLflow run" if page.is_file() else ""
    )


def _warnings() -> str:
    return "\n\n".join(f"**Warning:** {html.escape(line)}" for line in warnings())


def _metrics(metrics: dict[str, float]) -> str:
    if not metrics:
        return ""
    rows = ""
    for name in metrics:
        tuned = name.removesuffix("_base") + "_tuned"
        if name.endswith("_base") and tuned in metrics:
            rows += f"\n| {name.removesuffix('_base')} | {metrics[name]:.5f} | {metrics[tuned]:.5f} |"
    return f"## Base and tuned model\n\n| | base | tuned |\n|---|---|---|{rows}{_change(metrics)}"


def _change(metrics: dict[str, float]) -> str:
    change = [metrics.get(f"heldout_motion_loss_change{end}") for end in ("", "_low", "_high")]
    if None in change:
        return ""
    interval = "**{:+.5f}** (95 % interval {:+.5f} to {:+.5f})".format(*change)
    improved = f"{metrics['heldout_improved_fraction']:.0%} of the held-out clips that move"
    return f"\n\nMotion loss changed by {interval}; it fell on {improved}."


def _top_clips() -> str:
    table = best_clips(DATA, TOP)
    return f"## The most helpful clips\n\n{table}" if table else ""


def _image() -> str:
    path = DATA / "attribution/best_and_worst.png"
    if not path.is_file():
        return ""
    from motive.images.png import thumbnail

    data = base64.b64encode(thumbnail(path, WIDTH)).decode()
    alt = "for each motion a query, its best and its worst clips"
    return f"## Best and worst\n\n![{alt}](data:image/jpeg;base64,{data})"


def _outcomes(outcomes: dict[str, str]) -> str:
    rows = "\n".join(f"| {stage} | {outcome} |" for stage, outcome in outcomes.items())
    return f"## Stages\n\n| stage | |\n|---|---|\n{rows}"
