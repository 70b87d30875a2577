"""What must hold of each stage's table: (table, **context) -> gates.

What each suite wants of table and context stands in its docstring; tensors come as the table of
`shards.summarise`.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from motive.checks.great_expectations import FINITE, Expectation, Gate
from motive.clips.ranking import OK, STATUSES
from motive.clips.table import COLUMNS
from motive.errors import FAILURE_KINDS

UNLIKELY = 0.01  # a chance below this is no chance
SLACK = 1e-3  # of a unit norm or a cosine: rounding of float16 and of long sums
ABSURD = 100.0  # a loss; to predict nothing costs about 2, since noise and latents have variance 1 each


def clips(table: pd.DataFrame, *, failures: pd.DataFrame) -> list[Gate]:
    """The clip table of docs/data.md: columns, ids unique and sorted, possible sizes and rates.

    `failures`, of failures.parquet: each names a file, one of the kinds, and a reason.
    """
    again = "run the clips stage again; it writes this column"
    fault = "the file's header is wrong: re-encode the video, or take it out of clips.source"
    order = table.assign(after_the_row_above=table["clip_id"] > table["clip_id"].shift(fill_value=""))
    schema = Expectation("ExpectTableColumnsToMatchOrderedList", {"column_list": list(COLUMNS)}, again)
    none = "no clip is usable: see failures.parquet"
    some = Expectation("ExpectTableRowCountToBeBetween", {"min_value": 1}, none)
    expectations = [
        *_name("clip_id", again),
        _true("after_the_row_above", again),
        *(_filled(name, again) for name in ("video", "source", "motion", "sha256")),
        _filled("caption", "add the caption, or set clips.missing_caption to empty"),
        _like("clip_id", "^[0-9a-f]{16}$", again),
        _like("sha256", "^[0-9a-f]{64}$", again),
        *_between("num_frames", 2, None, "a clip of one frame has no motion: take it out of clips.source"),
        *_between("fps", 0.1, 1000, fault),
        *_between("duration", 0.001, 86400, fault),
        *_between("height", 1, 32768, fault),
        *_between("width", 1, 32768, fault),
        *_between("file_size", 1, None, again),
    ]
    reasons = [_filled("file", again), *_among("kind", list(FAILURE_KINDS), again), _filled("reason", again)]
    return [Gate(table, [schema, some]), Gate(order, expectations), Gate(failures, reasons)]


def arrays(table: pd.DataFrame, *, clips: pd.DataFrame, failures: pd.DataFrame) -> list[Gate]:
    """`summarise(folder, "flow")` or `"latent"`: each of the clip table `clips` is in it or failed.

    What is in it is finite. `failures` is what `publish` returned.
    """
    again = "delete this stage's folder in .motive/work and run the stage again"
    bad = "look at these clips; if one is broken, take it out of clips.source"
    ledger = _ledger(table, clips, set(failures["clip_id"]), again)
    return [ledger, Gate(table, [*_name("clip_id", again), *_among("finite", [True], bad)])]


def masks(table: pd.DataFrame, *, clips: pd.DataFrame, failures: pd.DataFrame) -> list[Gate]:
    """`summarise(folder, "mask")` joined with mask_stats.parquet; like `arrays`, weights in [0, 1]."""
    from motive.maths.camera_motion import KINDS, LABELS  # with torch, which not every stage loads

    again = "delete .motive/work/masks and run the masks stage again"
    weights = [line for name in ("min", "max", "coverage") for line in _between(name, 0, 1, again)]
    speeds = [line for name in ("motion", "own_motion") for line in _between(name, 0, None, again)]
    words = [*_among("camera", list(LABELS), again), *_among("motion_kind", list(KINDS), again)]
    shares = [line for name in ("inlier_ratio", "brightness") for line in _between(name, 0, 1, again)]
    expectations = [*weights, *speeds, *shares, *words, *_among("still", FLAG, again)]
    return [*arrays(table, clips=clips, failures=failures), Gate(table, expectations)]


def sketches(table: pd.DataFrame, *, clips: pd.DataFrame, failures: pd.DataFrame) -> list[Gate]:
    """`summarise(folder, "sketch")`, which has `ok`; like `arrays`; where ok finite, of unit norm."""
    again = "delete .motive/work/sketches and run the sketches stage again"
    none = "no sketch is ok: does anything move? see masks.floor and masks/overlay.png, then the model"
    ok = table["ok"].eq(True)
    table = table.assign(
        finite=table["finite"].where(ok, True),
        norm=table["norm"].where(ok, 1.0),
        any_ok=bool(ok.any() or table.empty),
    )
    expectations = [
        *_among("ok", FLAG, again),
        *_between("norm", 1 - SLACK, 1 + SLACK, again),
        _true("any_ok", none),
    ]
    return [*arrays(table, clips=clips, failures=failures), Gate(table, expectations)]


def ranking(table: pd.DataFrame, *, pool: pd.DataFrame, num_queries: int) -> list[Gate]:
    """data/attribution/ranking.parquet: a permutation of the clip table `pool`, votes up to `num_queries`.

    Influence may be null where `status` is not ok.
    """
    again = "run the attribution stage again; if it fails again, look at the sketches of these clips"
    without = table["status"].ne(OK) & table["influence"].isna()
    table = table.assign(influence=table["influence"].mask(without, 0.0))
    expectations = [
        *_name("clip_id", again),
        _unique("rank", again),
        *_between("rank", 0, len(pool) - 1, again),
        *_between("votes", 0, num_queries, again),
        *_between("influence", -1 - SLACK, 1 + SLACK, again),
        *_among("status", list(STATUSES), again),
    ]
    return [_ledger(table, pool, set(), again), Gate(table, expectations)]


def subset(table: pd.DataFrame, *, pool: pd.DataFrame, num_selected: int) -> list[Gate]:
    """data/curation/subset.parquet: `num_selected` clips, as asked for, of the clip table `pool`."""
    again = "run the curation stage again"
    foreign = "a subset holds pool clips only: run the attribution and the curation stage again"
    count = "change curation.fraction, or see in ranking.parquet why clips are not ok"
    expectations = [
        Expectation("ExpectTableRowCountToEqual", {"value": num_selected}, count),
        *_name("clip_id", again),
        _true("in_pool", foreign),
        _unique("rank", again),
        *_between("rank", 0, len(pool) - 1, again),
        _filled("why", again),
    ]
    return [Gate(table.assign(in_pool=table["clip_id"].isin(pool["clip_id"])), expectations)]


def finetuning(table: pd.DataFrame, *, num_steps: int) -> list[Gate]:
    """data/finetuning/losses.parquet: each of `num_steps` steps once, its loss not absurd."""
    again = "delete .motive/work/finetuning and run the finetuning stage again"
    diverged = "the training diverged: lower finetuning.learning_rate or finetuning.max_grad_norm"
    expectations = [
        Expectation("ExpectTableRowCountToEqual", {"value": num_steps}, again),
        _unique("step", again),
        *_between("step", 0, num_steps - 1, again),
        *_between("loss", 0, ABSURD, diverged),
    ]
    return [Gate(table, expectations)]


def evaluation(table: pd.DataFrame, *, required: list[str]) -> list[Gate]:
    """metrics.json as rows `metric`, `value`; `required`: the metrics that must be among them."""
    lost = "a metric is missing or not finite: look for diverging losses in data/finetuning/losses.parquet"
    missing = [name for name in required if name not in set(table["metric"])]
    numbers = pd.Series(pd.to_numeric(table["value"], errors="coerce"), dtype=float)
    values = numbers.tolist() + [np.nan] * len(missing)
    seen = pd.DataFrame({"metric": [*table["metric"], *missing], "finite": np.isfinite(values)})
    return [Gate(seen, [*_name("metric", "metrics.json has a metric twice"), _true("finite", lost)])]


def drift(table: pd.DataFrame, *, threshold: float) -> list[Gate]:
    """`checks.drift.distances` of two data versions: no distance above `threshold`, unless by chance.

    It warns, and stops nothing.
    """
    table = table.assign(distance=table["distance"].mask(table["chance"] >= UNLIKELY, 0.0))
    look = (
        "look at the clips that came and went; if they are meant to be there, the next run compares with them"
    )
    near = _between("distance", 0, threshold, look)
    return [Gate(table, [each._replace(severity="warning") for each in near])]


FLAG = [False, True]
ARRAY = ("clip_id", "finite")
STATS = ("coverage", "motion", "own_motion", "still", "camera", "motion_kind", "inlier_ratio", "brightness")
SUITES: dict[str, tuple[Callable[..., list[Gate]], tuple[str, ...]]] = {
    "clips": (clips, tuple(COLUMNS)),
    "optical_flow": (arrays, ARRAY),
    "masks": (masks, (*ARRAY, "min", "max", *STATS)),
    "latents": (arrays, ARRAY),
    "sketches": (sketches, (*ARRAY, "norm", "ok")),
    "ranking": (ranking, ("clip_id", "rank", "votes", "influence", "status", "reason")),
    "subset": (subset, ("clip_id", "rank", "why")),
    "finetuning": (finetuning, ("step", "loss", "learning_rate")),
    "evaluation": (evaluation, ("metric", "value")),
    "drift": (drift, ("metric", "distance", "chance")),
}


# ---- expectations that several suites share


def _ledger(table: pd.DataFrame, clips: pd.DataFrame, failed: set[str], advice: str) -> Gate:
    """Every clip of the stage before is published or failed, none is both, and none came from elsewhere."""
    published = set(table["clip_id"].dropna())
    ours = set(clips["clip_id"])
    states = dict.fromkeys(ours, "lost")
    states |= dict.fromkeys((published | failed) - ours, "from elsewhere")
    states |= dict.fromkeys(ours & published, "published")
    states |= dict.fromkeys(ours & failed, "failed")
    states |= dict.fromkeys(published & failed, "published and failed")
    ledger = pd.DataFrame(sorted(states.items()), columns=["clip_id", "state"])
    return Gate(ledger, [_in_set("state", ["published", "failed"], advice)])


def _filled(column: str, advice: str) -> Expectation:
    return Expectation("ExpectColumnValuesToNotBeNull", {"column": column}, advice)


def _name(column: str, advice: str) -> list[Expectation]:
    return [_filled(column, advice), _unique(column, advice)]


def _unique(column: str, advice: str) -> Expectation:
    return Expectation("ExpectColumnValuesToBeUnique", {"column": column}, advice)


def _between(column: str, low: float, high: float | None, advice: str) -> list[Expectation]:
    """Within bounds and not NaN, which bounds alone let through; without an upper bound, finite."""
    bounds = {"column": column, "min_value": low, "max_value": FINITE if high is None else high}
    return [Expectation("ExpectColumnValuesToBeBetween", bounds, advice), _filled(column, advice)]


def _like(column: str, regex: str, advice: str) -> Expectation:
    return Expectation("ExpectColumnValuesToMatchRegex", {"column": column, "regex": regex}, advice)


def _in_set(column: str, values: list, advice: str) -> Expectation:
    """Lets null through: for columns that a suite makes itself."""
    return Expectation("ExpectColumnValuesToBeInSet", {"column": column, "value_set": values}, advice)


def _among(column: str, values: list, advice: str) -> list[Expectation]:
    return [_filled(column, advice), _in_set(column, values, advice)]


def _true(column: str, advice: str) -> Expectation:
    return _in_set(column, [True], advice)
