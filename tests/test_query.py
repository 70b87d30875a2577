"""`motive query`: its JSON says what its table says, under keys that stay, and an error is no JSON."""

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from motive.clips.ranking import OK, read_ranking
from motive.clips.table import clip_path, read_clips, write_clips
from motive.params import load_params
from motive.stages import run_stage
from testing.commands import motive
from testing.model_project import forget_models
from testing.ranked_project import write_ranked_project
from testing.whole_project import write_params

pytestmark = pytest.mark.slow

TOP = 2
ASK = ["--caption", "a ball rolls", "--json"]
CAPTION = r'a "red" ball [bold]rolls[/bold] \ über 球 | 50 %'  # in JSON, markup and columns something else
KEYS = [
    *("rank", "influence", "clip_id", "video", "source", "caption", "motion", "num_frames"),
    *("height", "width", "fps", "duration", "start", "end", "sha256", "file_size"),
]
SEGMENT_KEYS = ["segment_start", "segment_end", "segment_influence"]
ERRORS = {
    "no file": (["gone.mp4", *ASK], "gone.mp4: there is no such file"),
    "no video": (["params.yaml", *ASK], "params.yaml: not a video"),
    "no image": (["gone.mp4", *ASK, "--out", "x.json"], "--out x.json: it is an image"),
    "no device": (["gone.mp4", *ASK, "--device", "gpu"], "model.device is 'gpu': allowed: cpu"),
}
# Many calls of the command in one process, which imports once.
CALLS = """
import json, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from motive.cli import main
answers = []
for arguments in json.load(sys.stdin):
    sys.argv = ["motive", *arguments]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


class Answer(NamedTuple):
    code: int
    out: str
    err: str


class Project(NamedTuple):
    folder: Path
    best: str  # the video of the best clip, relative to the folder, ...
    second: str  # ... and of the next


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    write_ranked_project(folder, num_pool=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        best, second = read_ranking()["clip_id"].head(2)
        clips = read_clips("pool")
        write_clips("pool", clips.assign(caption=clips["caption"].mask(clips["clip_id"] == best, CAPTION)))
    rows = clips.set_index("clip_id")
    return Project(folder, str(clip_path(rows.loc[best])), str(clip_path(rows.loc[second])))


@pytest.fixture(scope="module")
def printed(ranked: Project) -> subprocess.CompletedProcess:
    """What a process of its own prints: anything else that it says on stdout would stand there, too."""
    return motive("query", ranked.best, *ASK, "--top", str(TOP), cwd=ranked.folder)


@pytest.fixture(scope="module")
def answers(ranked: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Of the calls below, by name; those in another state of the project ask a copy."""

    def copy(name: str) -> Path:
        return shutil.copytree(ranked.folder, tmp_path_factory.mktemp(name) / "project")

    # One with segments, one that lacks a video, one whose parameters have changed.
    segments, lacking, changed = (copy(name) for name in ("segments", "lacking", "changed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(segments)
        write_params(sketches={"segments": 2, "storage": "float32"})
        run_stage(import_module("motive.stages.sketches"), load_params(), "pool")
        patch.chdir(changed)
        write_params(masks={"floor": 9.0})
    forget_models()
    (lacking / ranked.second).unlink()

    # The last two calls are no questions to a project.
    here = ["--root", str(ranked.folder), "query"]
    calls = {
        "text": [*here, ranked.best, *ASK[:2], "--top", str(TOP)],
        "all": [*here, ranked.best, *ASK, "--top", "100"],
        "segments": ["--root", str(segments), "query", ranked.best, *ASK],
        "lacking": ["--root", str(lacking), "query", ranked.best, *ASK],
        "changed": ["--root", str(changed), "query", ranked.best, *ASK],
        **{name: [*here, *arguments] for name, (arguments, _) in ERRORS.items()},
        "no caption": [*here, ranked.best, "--json"],
        "no project": ["--root", str(tmp_path_factory.mktemp("empty")), "query", "a.mp4", *ASK],
    }
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        env=os.environ | {"COLUMNS": "400"},
        input=json.dumps(list(calls.values())),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: Answer(*answer) for name, answer in zip(calls, json.loads(done.stdout), strict=True)}


def test_stdout_is_json_and_nothing_else(printed):
    assert printed.returncode == 0, printed.stderr
    assert len(json.loads(printed.stdout)) == 2 * TOP
    assert "look at" in printed.stderr


def test_its_keys_and_their_types_stay(printed):
    texts = {"clip_id", "video", "source", "caption", "motion", "sha256"}
    counts = {"rank", "num_frames", "height", "width", "file_size"}
    for row in json.loads(printed.stdout):
        assert list(row) == KEYS
        for key, value in row.items():
            assert type(value) is (str if key in texts else int if key in counts else float)


def test_it_holds_both_ends_of_the_table_that_is_written(printed, ranked):
    table = pd.read_parquet(ranked.folder / f".motive/query/{Path(ranked.best).stem}.parquet")
    ends = pd.concat([table.head(TOP), table.tail(TOP)]).to_dict("records")
    rows = json.loads(printed.stdout)
    influences = [row.pop("influence") for row in rows]
    assert influences == pytest.approx([row.pop("influence") for row in ends], rel=1e-14)
    assert rows == ends
    assert CAPTION in [row["caption"] for row in rows]


def test_the_text_says_the_same(printed, answers):
    assert answers["text"].code == 0
    lines = [line for line in answers["text"].out.splitlines() if line.startswith("│")]
    expected = [
        [str(row["rank"]), f"{row['influence']:+.3f}", row["clip_id"], row["video"], row["caption"]]
        for row in json.loads(printed.stdout)
    ]
    assert [[cell.strip() for cell in line.strip("│").split("│")] for line in lines] == expected


def test_more_than_there_are_is_all_of_them_once(answers, ranked):
    rows = json.loads(answers["all"].out)
    ranking = read_ranking(ranked.folder)
    assert [row["rank"] for row in rows] == list(range(len(rows)))
    assert {row["clip_id"] for row in rows} == set(ranking.loc[ranking["status"] == OK, "clip_id"])


def test_segments_add_their_keys_after_the_clips_name(answers):
    rows = json.loads(answers["segments"].out)
    assert answers["segments"].code == 0
    assert [list(row) for row in rows] == [KEYS[:3] + SEGMENT_KEYS + KEYS[3:]] * len(rows)


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_a_sentence_on_stderr(answers, name):
    code, out, err = answers[name]
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert ERRORS[name][1] in err
    assert "Traceback" not in err


def test_a_pool_of_other_parameters_is_named(answers):
    code, out, err = answers["changed"]
    assert (code, out) == (1, "")
    assert err.startswith("error: data/pool/masks was made in another way; run `dvc repro`.")


def test_outside_of_a_project_it_says_what_is_missing(answers):
    code, out, err = answers["no project"]
    assert (code, out) == (1, "")
    assert err.startswith("error: params.yaml is missing")


def test_without_a_caption_it_is_a_mistake_in_the_call(answers):
    code, out, err = answers["no caption"]
    assert (code, out) == (2, "")
    assert "--caption" in err


def test_an_image_that_cannot_be_drawn_costs_no_json(answers, ranked):
    code, out, err = answers["lacking"]
    assert code == 1
    assert json.loads(out) == json.loads(answers["all"].out)
    assert f"error: no image: {ranked.second}" in err
