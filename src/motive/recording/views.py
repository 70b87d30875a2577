"""The view of an experiment that compares its runs: columns, order and charts, in MLflow's own format.

MLflow keeps what its *Share* button makes in a tag of the experiment; this is such a tag.
"""

import json
from typing import Any

KEY = "motive"
VIEW = f"mlflow.sharedViewState.{KEY}"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # or the pages are those of chat bots
CHANGE = "heldout_motion_loss_change"
COLUMNS = (
    *("tags.`strategy`", "tags.`failed_stage`", "params.`curation.fraction`"),
    *(f"metrics.`{CHANGE}{end}`" for end in ("", "_low", "_high")),
    *("metrics.`heldout_plain_loss_tuned`", "tags.`data_version`"),
)
SECTIONS = {
    "Held-out motion loss: below 0 is better": (CHANGE, f"{CHANGE}_low", f"{CHANGE}_high"),
    "Held-out losses of the tuned model": ("heldout_motion_loss_tuned", "heldout_plain_loss_tuned"),
    "Generated videos": ("mean_motion_tuned", "motion_smoothness_blend_tuned", "flickering_tuned"),
    "Fine-tuning": ("finetuning/loss",),
    "Drift since the data version before": ("drift/duration", "drift/own_motion", "drift/influence"),
}
CURVES = {"finetuning/loss"}
LINE = {"type": "LINE", "xAxisKey": "step", "xAxisScaleType": "linear", "scaleType": "linear", "range": {}}
NUM_RUNS = 10  # in a chart


def compare_address(server: str, experiment_id: str) -> str:
    """The page of the view."""
    view = f"viewStateShareKey={KEY}&workflowType=machine_learning&compareRunsMode=CHART"
    return f"{server}/#/experiments/{experiment_id}/runs?{view}"


def compare_view() -> str:
    """The view as JSON; the best run first, runs of stages left out."""
    view = {
        "searchFilter": "tags.strategy != ''",  # stages have none
        "orderByKey": f"metrics.`{CHANGE}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": COLUMNS,
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": f"FIRST_{NUM_RUNS}_RUNS",
        "compareRunCharts": [_chart(title, name) for title, names in SECTIONS.items() for name in names],
        "compareRunSections": [
            {"uuid": title, "name": title, "display": True, "isReordered": True} for title in SECTIONS
        ],
        "isAccordionReordered": True,
        "viewMaximized": False,
        "runListHidden": False,
    }
    return json.dumps(view, separators=(",", ":"))


def _chart(section: str, metric: str) -> dict[str, Any]:
    bar = {
        "type": "BAR",
        "uuid": metric,
        "metricSectionId": section,
        "metricKey": metric,
        "displayName": metric,
        "runsCountToCompare": NUM_RUNS,
        "deleted": False,
        "isGenerated": False,
    }
    return bar | LINE | {"selectedMetricKeys": [metric]} if metric in CURVES else bar
