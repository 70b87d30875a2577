"""Every expectation of every gate lets good data through and stops bad data, with the rows and what to do."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from motive import checks
from motive.checks import CheckFailed, check
from motive.checks.great_expectations import Outcome, outcomes
from motive.store.recipes import Recipe
from motive.store.shards import summarise
from motive.store.work import publish, write_chunk
from testing.good_tables import BAD_FILES, CLIPS, GOOD, IDS, LOSSES, SKETCHES, SUBSET, SUMMARY, spoilt


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", GOOD)
def test_good_tables_go_on(name: str) -> None:
    table, context = GOOD[name]
    before = table.copy()
    check(name, table, **context)
    pd.testing.assert_frame_equal(table, before)


# name, row, column, bad value, how the line of the expectation that fails begins
BAD_VALUES = [
    ("clips", 1, "clip_id", IDS[0], "clip_id: values to be unique"),
    ("clips", 1, "clip_id", None, "clip_id: values to not be null"),
    ("clips", 1, "clip_id", "ff", "clip_id: values to match regex"),
    ("clips", 2, "clip_id", "0" * 15 + "f", f"after_the_row_above: .*{IDS[3]}"),
    ("clips", 1, "video", None, f"video: values to not be null: 1 of 4 rows: {IDS[1]}"),
    ("clips", 1, "source", None, f"source: .*{IDS[1]}"),
    ("clips", 1, "caption", None, f"caption: .*{IDS[1]}.*clips.missing_caption"),
    ("clips", 1, "motion", None, f"motion: .*{IDS[1]}"),
    ("clips", 1, "sha256", None, f"sha256: values to not be null.*{IDS[1]}"),
    ("clips", 1, "sha256", "12", f"sha256: values to match regex.*{IDS[1]}"),
    ("clips", 1, "num_frames", 1, rf"num_frames: values to be between.*{IDS[1]} \(1\)"),
    ("clips", 1, "num_frames", None, f"num_frames: values to not be null.*{IDS[1]}"),
    ("clips", 1, "fps", 0.0, rf"fps: .*{IDS[1]} \(0.0\)"),
    ("clips", 1, "fps", 90000.0, f"fps: .*{IDS[1]}"),
    ("clips", 1, "fps", np.nan, f"fps: values to not be null.*{IDS[1]}"),
    ("clips", 1, "duration", 0.0, f"duration: .*{IDS[1]}"),
    ("clips", 1, "duration", np.nan, f"duration: .*{IDS[1]}"),
    ("clips", 1, "height", 0, f"height: .*{IDS[1]}"),
    ("clips", 1, "height", None, f"height: .*{IDS[1]}"),
    ("clips", 1, "width", 99999, f"width: .*{IDS[1]}"),
    ("clips", 1, "width", None, f"width: .*{IDS[1]}"),
    ("clips", 1, "file_size", 0, f"file_size: .*{IDS[1]}"),
    ("clips", 1, "file_size", None, f"file_size: values to not be null.*{IDS[1]}"),
    *[
        case
        for name in ("optical_flow", "masks", "latents", "sketches")
        for case in (
            (name, 1, "finite", False, f"finite: values to be in set.*{IDS[1]}"),
            (name, 1, "finite", None, f"finite: values to not be null.*{IDS[1]}"),
            (name, 1, "clip_id", IDS[0], f"state: .*{IDS[1]} .lost"),
            (name, 1, "clip_id", IDS[0], f"clip_id: values to be unique.*{IDS[0]}"),
            (name, 1, "clip_id", None, "clip_id: values to not be null"),
            (name, 1, "clip_id", IDS[3], f"state: .*{IDS[3]} .published and failed"),
            (name, 1, "clip_id", "f" * 16, f"state: .*{'f' * 16} .from elsewhere"),
        )
    ],
    ("masks", 1, "min", -0.1, f"min: .*{IDS[1]}"),
    ("masks", 1, "min", np.nan, f"min: .*{IDS[1]}"),
    ("masks", 1, "max", 1.1, f"max: .*{IDS[1]}"),
    ("masks", 1, "max", np.nan, f"max: .*{IDS[1]}"),
    ("masks", 1, "coverage", 1.2, f"coverage: .*{IDS[1]}"),
    ("masks", 1, "coverage", np.nan, f"coverage: .*{IDS[1]}"),
    ("masks", 1, "motion", -1.0, f"motion: .*{IDS[1]}"),
    ("masks", 1, "motion", np.inf, f"motion: .*{IDS[1]}"),
    ("masks", 1, "motion", np.nan, f"motion: .*{IDS[1]}"),
    ("masks", 1, "own_motion", -1.0, f"own_motion: values to be between.*{IDS[1]}"),
    ("masks", 1, "own_motion", np.nan, f"own_motion: values to not be null.*{IDS[1]}"),
    ("masks", 1, "inlier_ratio", 1.5, f"inlier_ratio: values to be between.*{IDS[1]}"),
    ("masks", 1, "inlier_ratio", np.nan, f"inlier_ratio: values to not be null.*{IDS[1]}"),
    ("masks", 1, "brightness", 1.5, f"brightness: values to be between.*{IDS[1]}"),
    ("masks", 1, "brightness", np.nan, f"brightness: values to not be null.*{IDS[1]}"),
    ("masks", 1, "camera", "dolly", f"camera: values to be in set.*{IDS[1]}"),
    ("masks", 1, "camera", None, f"camera: values to not be null.*{IDS[1]}"),
    ("masks", 1, "motion_kind", "fast", f"motion_kind: values to be in set.*{IDS[1]}"),
    ("masks", 1, "motion_kind", None, f"motion_kind: values to not be null.*{IDS[1]}"),
    ("masks", 1, "still", None, f"still: values to not be null.*{IDS[1]}"),
    ("masks", 1, "still", 2, f"still: values to be in set.*{IDS[1]}"),
    ("sketches", 1, "norm", 0.9, f"norm: .*{IDS[1]}"),
    ("sketches", 1, "norm", np.nan, f"norm: .*{IDS[1]}"),
    ("sketches", 1, "ok", None, f"ok: values to not be null.*{IDS[1]}"),
    ("sketches", 1, "ok", 3, f"ok: values to be in set.*{IDS[1]}"),
    ("ranking", 1, "clip_id", IDS[1], f"state: .*{IDS[0]} .lost"),
    ("ranking", 1, "clip_id", IDS[1], f"clip_id: values to be unique.*{IDS[1]}"),
    ("ranking", 1, "clip_id", None, "clip_id: values to not be null"),
    ("ranking", 1, "rank", 0, "rank: values to be unique"),
    ("ranking", 1, "rank", 4, rf"rank: values to be between.*{IDS[0]} \(4\)"),
    ("ranking", 1, "rank", None, "rank: values to not be null"),
    ("ranking", 1, "votes", 6, rf"votes: .*max_value=5.*{IDS[0]} \(6\)"),
    ("ranking", 1, "votes", None, "votes: values to not be null"),
    ("ranking", 1, "influence", -1.1, f"influence: .*{IDS[0]}"),
    ("ranking", 1, "influence", np.nan, f"influence: values to not be null.*{IDS[0]}"),
    ("ranking", 1, "status", None, "status: values to not be null"),
    ("ranking", 1, "status", "lost", "status: values to be in set"),
    ("subset", 1, "clip_id", IDS[2], f"clip_id: values to be unique.*{IDS[2]}"),
    ("subset", 1, "clip_id", None, "clip_id: values to not be null"),
    ("subset", 1, "clip_id", "f" * 16, f"in_pool: .*{'f' * 16}"),
    ("subset", 1, "rank", 0, "rank: values to be unique"),
    ("subset", 1, "rank", 9, "rank: values to be between"),
    ("subset", 1, "rank", None, "rank: values to not be null"),
    ("subset", 1, "why", None, f"why: .*{IDS[0]}"),
    ("finetuning", 2, "step", 1, "step: values to be unique.*: 1, 1"),
    ("finetuning", 1, "step", 3, r"step: values to be between.*max_value=2.*: 1 of 3 rows: 3"),
    ("finetuning", 1, "step", None, "step: values to not be null: 1 of 3 rows"),
    ("finetuning", 1, "loss", None, r"loss: values to not be null: 1 of 3 rows: 1 \(nan\)"),
    ("finetuning", 1, "loss", np.inf, r"loss: values to be between.*1 \(inf\).*learning_rate"),
    ("finetuning", 2, "loss", 1000.0, r"loss: values to be between.*2 \(1000.0\).*learning_rate"),
    ("drift", 0, "distance", 0.3, r"distance: values to be between.*duration \(0.3\)"),
    ("drift", 0, "distance", np.nan, "distance: values to not be null.*duration"),
    ("evaluation", 0, "metric", None, "metric: values to not be null"),
    ("evaluation", 0, "value", np.nan, "finite: .*heldout_motion_loss_base"),
    ("evaluation", 0, "value", np.inf, "finite: .*heldout_motion_loss_base"),
    ("evaluation", 0, "value", "fast", "finite: .*heldout_motion_loss_base"),
    ("evaluation", 0, "metric", "num_pool", "metric: values to be unique.*num_pool"),
    ("evaluation", 1, "metric", "num_clips", "finite: .*num_pool"),
]


BAD_TABLES = [
    ("clips", CLIPS.iloc[:0], "table: table row count to be between"),
    ("clips", CLIPS[[*CLIPS.columns[1:], "clip_id"]], "table: table columns to match ordered list"),
    ("clips", CLIPS.assign(extra=1), "table: table columns to match ordered list"),
    ("sketches", SKETCHES.assign(ok=False), "any_ok: values to be in set .*3 of 3 rows"),
    ("optical_flow", SUMMARY.iloc[:0], f"state: .*3 of 4 rows: {IDS[0]} .lost"),
    ("subset", SUBSET.iloc[:1], "table: table row count to equal .*found 1"),
    ("finetuning", LOSSES.iloc[:0], "table: table row count to equal .*found 0"),
    ("finetuning", LOSSES.iloc[[0, 2]], "table: table row count to equal .*found 2"),
]


BAD_FAILURES = [  # of the clips stage: column, value, what the outcome says
    ("file", None, "file: values to not be null"),
    ("kind", None, "kind: values to not be null: 1 of 1 rows: cut.mp4"),
    ("kind", "odd", r"kind: values to be in set.*1 of 1 rows: cut.mp4 \(odd\)"),
    ("reason", None, "reason: values to not be null: 1 of 1 rows: cut.mp4"),
]


def tried(name: str, table: pd.DataFrame, **context: object) -> list[Outcome]:
    suite, _ = checks.SUITES[name]
    return [outcome for gate in suite(table, **(GOOD[name][1] | context)) for outcome in outcomes(gate)]


@cache
def tried_with(name: str, row: int, column: str, value: object) -> list[Outcome]:
    return tried(name, spoilt(GOOD[name][0], row, column, value))


def failing(results: list[Outcome], says: str) -> list[Outcome]:
    return [each for each in results if not each.holds and re.match(f"- {says}", str(each))]


@pytest.mark.parametrize(("name", "row", "column", "value", "says"), BAD_VALUES)
def test_a_bad_value_fails_its_expectation(
    name: str, row: int, column: str, value: object, says: str
) -> None:
    broken = failing(tried_with(name, row, column, value), says)
    assert [each.severity for each in broken] == ["warning" if name == "drift" else "critical"]


@cache
def tried_failures(column: str, value: object) -> list[Outcome]:
    return tried("clips", CLIPS, failures=spoilt(BAD_FILES, 0, column, value))


@pytest.mark.parametrize(("column", "value", "says"), BAD_FAILURES)
def test_a_bad_failure_fails_its_expectation(column: str, value: object, says: str) -> None:
    assert len(failing(tried_failures(column, value), says)) == 1


@pytest.mark.parametrize(("name", "table", "says"), BAD_TABLES)
def test_a_bad_table_stops_the_stage(name: str, table: pd.DataFrame, says: str) -> None:
    line = rf"^data/x\.parquet: \d+ expectations failed(?s:.*)\n- {says}.*What to do: "
    with pytest.raises(CheckFailed, match=line):
        check(name, table, file="data/x.parquet", **GOOD[name][1])


@pytest.mark.parametrize(
    ("name", "column"), [(name, column) for name, (_, columns) in checks.SUITES.items() for column in columns]
)
def test_a_column_that_lacks_stops_the_stage(name: str, column: str) -> None:
    table, context = GOOD[name]
    with pytest.raises(CheckFailed, match=f"lacks the columns {column}"):
        check(name, table.drop(columns=column), **context)


@pytest.mark.slow
def test_every_expectation_fails_in_a_case_above() -> None:
    assert GOOD.keys() == checks.SUITES.keys()
    wanted = {(name, each.wanted) for name, (table, _) in GOOD.items() for each in tried(name, table)}
    values = [(name, tried_with(name, *spoil), says) for name, *spoil, says in BAD_VALUES]
    tables = [(name, tried(name, table), says) for name, table, says in BAD_TABLES]
    failures = [("clips", tried_failures(*spoil), says) for *spoil, says in BAD_FAILURES]
    failed = {
        (name, each.wanted)
        for name, results, says in (*values, *tables, *failures)
        for each in failing(results, says)
    }
    assert sorted(wanted - failed) == []


def test_a_message_names_ten_rows_and_counts_the_rest() -> None:
    table = pd.DataFrame({"metric": [f"m{n:02}" for n in range(25)], "value": np.nan})
    with pytest.raises(CheckFailed, match=r"25 of 25 rows: m00.*m09 \(False\) and 15 more") as failure:
        check("evaluation", table, required=[])
    assert "m10" not in str(failure.value)


def test_an_unknown_check_is_named() -> None:
    with pytest.raises(ValueError, match="no check 'flow'; it is one of clips, optical_flow"):
        check("flow", CLIPS)


def test_checks_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    check("clips", CLIPS, failures=BAD_FILES)
    assert capfd.readouterr() == ("", "")


def test_a_summary_sees_what_is_wrong_with_a_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Recipe("sketches", 1)
    values = {IDS[0]: [0.6, 0.8], IDS[1]: [torch.nan, 0.0], IDS[2]: [1.0, torch.inf], IDS[3]: []}
    write_chunk(
        recipe,
        {i: {"sketch": torch.tensor(v), "ok": torch.tensor(i != IDS[1])} for i, v in values.items()},
        {},
    )
    publish(recipe, IDS, 2, Path("out"))
    table = summarise(Path("out"), "sketch")
    assert table["finite"].tolist() == [True, False, False, False]
    assert table["ok"].tolist() == [True, False, True, True]
    assert table.loc[0, ["min", "max", "norm"]].tolist() == pytest.approx([0.6, 0.8, 1.0])


def test_an_empty_folder_has_an_empty_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    publish(Recipe("latents", 1), [], 2, Path("out"))
    assert summarise(Path("out"), "latent").columns.tolist() == ["clip_id", "finite", "min", "max", "norm"]
