"""How the gates went: beside the data, and on a page for people."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from motive import checks
from motive.checks import CheckFailed, check
from testing.good_tables import BAD_FILES, CLIPS, DISTANCES, IDS, MASKS, METRICS, PER_CLIP, SUBSET, spoilt

pytestmark = pytest.mark.slow


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
    check("clips", CLIPS, failures=BAD_FILES, file="data/pool/clips/clips.parquet")
    hostile = CLIPS.assign(clip_id=["<script>alert(1)</script>", *IDS[1:]])
    with pytest.raises(CheckFailed, match=r"see data/data_docs\.html$"):
        check("clips", hostile, failures=BAD_FILES, file="data/queries/clips/clips.parquet")
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


def test_the_page_has_the_order_of_the_pipeline(data: Path) -> None:
    check("evaluation", METRICS, file="data/evaluation/metrics.json", required=["num_pool"])
    check("masks", MASKS, file="data/pool/masks", **PER_CLIP)
    check("clips", CLIPS, failures=BAD_FILES, file="data/pool/clips/clips.parquet")
    text = Reader((data / "data_docs.html").read_text()).text
    places = [
        text.index(f"{folder}\n") for folder in ("data/pool/clips", "data/pool/masks", "data/evaluation")
    ]
    assert places == sorted(places)


def test_a_warning_is_said_and_stops_nothing(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    check("drift", spoilt(DISTANCES, 0, "distance", 0.3), file="data/record", threshold=0.1)
    [message] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert re.search(
        r"^drift: distance: .*max_value=0.1.*1 of 2 rows: duration \(0.3\). What to do: look", message
    )
    text = Reader((data / "data_docs.html").read_text()).text
    assert "1 warned" in text
    assert "1 of 1 gates hold" in text
    [line] = checks.warnings()
    assert line.startswith("drift: 1 of 2 rows: duration (0.3). look at"), line
