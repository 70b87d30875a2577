"""Every expectation of every gate lets good data through and stops bad data, with the rows and what to do."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from motive import checks
from motive.checks import CheckFailed, check
from motive.formats.shards import Recipe, publish, summarise, write_part

IDS = [f"{n:016x}" for n in range(4)]
CLIPS = pd.DataFrame(
    {
        "clip_id": IDS,
        "video": [f"{n}.mp4" for n in range(4)],
        "source": "clips",
        "caption": ["a ball", "", "a box", "a star"],
        "motion": "",
        "num_frames": 17,
        "height": 64,
        "width": 64,
        "fps": 12.0,
        "duration": 17 / 12,
        "start": 0.0,
        "end": 17 / 12,
        "sha256": [f"{n:064x}" for n in range(4)],
    }
)
FAILURES = pd.DataFrame({"clip_id": IDS[3:], "reason": ["no video stream"]})
SUMMARY = pd.DataFrame({"clip_id": IDS[:3], "finite": True, "min": 0.0, "max": 1.0, "norm": 1.0})
MASKS = SUMMARY.assign(
    coverage=[0.0, 0.5, 1.0],
    motion=[0.0, 3.0, 400.0],
    own_motion=[0.0, 0.0, 400.0],
    still=[True, False, False],
    camera=["static", "pan", "uncertain"],
    motion_kind=["still", "camera", "both"],
    inlier_ratio=[1.0, 0.9, 0.0],
    brightness=[0.5, 0.4, 0.6],
)
SKETCHES = SUMMARY.assign(ok=[True, True, False], norm=[1.0, 0.9999, np.nan], finite=[True, True, False])
RANKING = pd.DataFrame(
    {
        "clip_id": [IDS[2], IDS[0], IDS[1], IDS[3]],
        "rank": range(4),
        "votes": [5, 2, 0, 0],
        "influence": [0.4, 1.0002, -0.2, np.nan],
        "ok": [True, True, True, False],
        "reason": "",
    }
)
SUBSET = pd.DataFrame({"clip_id": [IDS[2], IDS[0]], "rank": [0, 1], "why": "5 of 5 votes"})
DISTANCES = pd.DataFrame({"metric": ["duration", "influence"], "distance": [0.05, 0.4], "chance": [0.0, 0.2]})
METRICS = pd.DataFrame({"metric": ["heldout_motion_loss_base", "num_pool"], "value": [0.5, 4]})

PER_CLIP = {"clips": CLIPS, "failures": FAILURES}
GOOD = {
    "clips": (CLIPS, {}),
    "optical_flow": (SUMMARY, PER_CLIP),
    "masks": (MASKS, PER_CLIP),
    "latents": (SUMMARY, PER_CLIP),
    "sketches": (SKETCHES, PER_CLIP),
    "ranking": (RANKING, {"pool": CLIPS, "num_queries": 5}),
    "subset": (SUBSET, {"pool": CLIPS, "num_selected": 2}),
    "evaluation": (METRICS, {"required": ["num_pool"]}),
    "drift": (DISTANCES, {"threshold": 0.1}),
}


def spoilt(table: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    bad = table.copy()
    bad[column] = bad[column].astype(object)
    bad.loc[row, column] = value
    return bad.infer_objects()


@pytest.mark.parametrize("name", GOOD)
def test_good_tables_go_on(name: str) -> None:
    table, context = GOOD[name]
    before = table.copy()
    check(name, table, **context)
    pd.testing.assert_frame_equal(table, before)


def test_every_suite_is_tried() -> None:
    assert GOOD.keys() == checks.SUITES.keys()


# name, row, column, bad value, what the message says
BAD_VALUES = [
    ("clips", 1, "clip_id", IDS[0], "clip_id: values to be unique"),
    ("clips", 1, "clip_id", None, "clip_id: values to not be null"),
    ("clips", 1, "clip_id", "ff", "clip_id: values to match regex"),
    ("clips", 2, "clip_id", "0" * 15 + "f", f"after_the_row_above: .*{IDS[3]}"),
    ("clips", 1, "video", None, f"video: values to not be null: 1 of 4 rows: {IDS[1]}"),
    ("clips", 1, "source", None, f"source: .*{IDS[1]}"),
    ("clips", 1, "caption", None, f"caption: .*{IDS[1]}.*clips.missing_caption"),
    ("clips", 1, "motion", None, f"motion: .*{IDS[1]}"),
    ("clips", 1, "sha256", "12", f"sha256: values to match regex.*{IDS[1]}"),
    ("clips", 1, "num_frames", 1, rf"num_frames: values to be between.*{IDS[1]} \(1\)"),
    ("clips", 1, "num_frames", None, f"num_frames: values to not be null.*{IDS[1]}"),
    ("clips", 1, "fps", 0.0, rf"fps: .*{IDS[1]} \(0.0\)"),
    ("clips", 1, "fps", 90000.0, f"fps: .*{IDS[1]}"),
    ("clips", 1, "fps", np.nan, f"fps: values to not be null.*{IDS[1]}"),
    ("clips", 1, "duration", 0.0, f"duration: .*{IDS[1]}"),
    ("masks", 1, "camera", "dolly", f"camera: .*{IDS[1]}"),
    ("masks", 1, "own_motion", np.nan, f"own_motion: .*{IDS[1]}"),
    ("masks", 1, "inlier_ratio", 1.5, f"inlier_ratio: .*{IDS[1]}"),
    ("masks", 1, "brightness", 1.5, f"brightness: .*{IDS[1]}"),
    ("clips", 1, "duration", np.nan, f"duration: .*{IDS[1]}"),
    ("clips", 1, "height", 0, f"height: .*{IDS[1]}"),
    ("clips", 1, "height", None, f"height: .*{IDS[1]}"),
    ("clips", 1, "width", 99999, f"width: .*{IDS[1]}"),
    ("clips", 1, "width", None, f"width: .*{IDS[1]}"),
    *[
        case
        for name in ("optical_flow", "masks", "latents", "sketches")
        for case in (
            (name, 1, "finite", False, f"finite: .*{IDS[1]}"),
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
    ("ranking", 1, "ok", None, "ok: values to not be null"),
    ("ranking", 1, "ok", 3, "ok: values to be in set"),
    ("subset", 1, "clip_id", IDS[2], f"clip_id: values to be unique.*{IDS[2]}"),
    ("subset", 1, "clip_id", None, "clip_id: values to not be null"),
    ("subset", 1, "clip_id", "f" * 16, f"in_pool: .*{'f' * 16}"),
    ("subset", 1, "rank", 0, "rank: values to be unique"),
    ("subset", 1, "rank", 9, "rank: values to be between"),
    ("subset", 1, "rank", None, "rank: values to not be null"),
    ("subset", 1, "why", None, f"why: .*{IDS[0]}"),
    ("evaluation", 0, "value", np.nan, "finite: .*heldout_motion_loss_base"),
    ("evaluation", 0, "value", np.inf, "finite: .*heldout_motion_loss_base"),
    ("evaluation", 0, "value", "fast", "finite: .*heldout_motion_loss_base"),
    ("evaluation", 0, "metric", "num_pool", "metric: values to be unique.*num_pool"),
    ("evaluation", 1, "metric", "num_clips", "finite: .*num_pool"),
]


@pytest.mark.parametrize(("name", "row", "column", "value", "says"), BAD_VALUES)
def test_a_bad_value_stops_the_stage(name: str, row: int, column: str, value: object, says: str) -> None:
    table, context = GOOD[name]
    with pytest.raises(CheckFailed) as failure:
        check(name, spoilt(table, row, column, value), file="data/x.parquet", **context)
    message = str(failure.value)
    assert message.startswith("data/x.parquet: ")
    line = next((line for line in message.splitlines() if re.search(says, line)), None)
    assert line is not None, message
    assert "What to do: " in line


BAD_TABLES = [
    ("clips", CLIPS.iloc[:0], "table: table row count to be between"),
    ("clips", CLIPS[[*CLIPS.columns[1:], "clip_id"]], "columns to match ordered list"),
    ("clips", CLIPS.assign(extra=1), "columns to match ordered list"),
    ("sketches", SKETCHES.assign(ok=False), "any_ok: .*every sketch"),
    ("optical_flow", SUMMARY.iloc[:0], f"state: .*3 of 4 rows: {IDS[0]} .lost"),
    ("subset", SUBSET.iloc[:1], "table: table row count to equal .*found 1"),
    *[
        (name, GOOD[name][0].drop(columns=column), f"lacks the columns {column}")
        for name, (_, columns) in checks.SUITES.items()
        for column in columns
    ],
]


@pytest.mark.parametrize(("name", "table", "says"), BAD_TABLES)
def test_a_bad_table_stops_the_stage(name: str, table: pd.DataFrame, says: str) -> None:
    with pytest.raises(CheckFailed, match=says):
        check(name, table, **GOOD[name][1])


def test_a_warning_is_said_and_stops_nothing(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    check("drift", spoilt(DISTANCES, 0, "distance", 0.3), file="data/track", threshold=0.1)
    [said] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert re.search(
        r"^drift: distance: .*max_value=0.1.*1 of 2 rows: duration \(0.3\). What to do: look", said
    )
    text = Reader((data / "data_docs.html").read_text()).text
    assert "1 warned" in text
    assert "1 of 1 gates hold" in text
    [line] = checks.warnings()
    assert line.startswith("drift: 1 of 2 rows: duration (0.3). look at"), line


def test_a_message_names_ten_rows_and_counts_the_rest() -> None:
    table = pd.DataFrame({"metric": [f"m{n:02}" for n in range(25)], "value": np.nan})
    with pytest.raises(CheckFailed, match=r"25 of 25 rows: m00.*m09 \(False\) and 15 more") as failure:
        check("evaluation", table, required=[])
    assert "m10" not in str(failure.value)


def test_an_unknown_check_is_named() -> None:
    with pytest.raises(ValueError, match="no check 'flow'; it is one of clips, optical_flow"):
        check("flow", CLIPS)


def test_checks_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    check("clips", CLIPS)
    assert capfd.readouterr() == ("", "")


def test_a_summary_sees_what_is_wrong_with_a_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Recipe("sketches", 1)
    values = {IDS[0]: [0.6, 0.8], IDS[1]: [torch.nan, 0.0], IDS[2]: [1.0, torch.inf], IDS[3]: []}
    write_part(
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


# ---- data docs


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


class Reader(HTMLParser):
    """The text of a page, its tags, and what they load."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.loads, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_how_a_check_went_lies_beside_the_data_and_on_the_page(data: Path) -> None:
    check("clips", CLIPS, file="data/pool/clips/clips.parquet")
    hostile = CLIPS.assign(clip_id=["<script>alert(1)</script>", *IDS[1:]])
    with pytest.raises(CheckFailed, match=r"see data/data_docs\.html$"):
        check("clips", hostile, file="data/queries/clips/clips.parquet")
    content = json.loads((data / "queries/clips/checks.json").read_text())
    assert (content["gate"], content["num_rows"]) == ("clips", 4)
    page = (data / "data_docs.html").read_text()
    read = Reader(page)
    assert "script" not in read.tags
    assert read.loads == []
    assert not re.search(r"https?:|@import|url\(", page)
    assert "1 of 2 gates hold" in read.text
    assert "<script>alert(1)</script>" in read.text, "shown, as text"
    assert "run the clips stage again" in read.text, "what to do"
    assert read.text.index("queries") < read.text.index("pool"), "failures first"


def test_the_same_data_gives_the_same_bytes(data: Path) -> None:
    written = []
    for _ in range(2):
        check("subset", SUBSET, file="data/curation/subset.parquet", pool=CLIPS, num_selected=2)
        written.append((data / "curation/checks.json").read_bytes() + (data / "data_docs.html").read_bytes())
    assert written[0] == written[1]


def test_the_page_has_the_order_of_the_river(data: Path) -> None:
    check("evaluation", METRICS, file="data/evaluation/metrics.json", required=["num_pool"])
    check("masks", MASKS, file="data/pool/masks", **PER_CLIP)
    check("clips", CLIPS, file="data/pool/clips/clips.parquet")
    text = Reader((data / "data_docs.html").read_text()).text
    places = [
        text.index(f"{folder}\n") for folder in ("data/pool/clips", "data/pool/masks", "data/evaluation")
    ]
    assert places == sorted(places)
