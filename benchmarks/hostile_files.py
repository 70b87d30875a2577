"""Does a hostile upload folder crash, hang or leave `motive clips`? Numbers for docs/benchmarks.md.

    python benchmarks/hostile_files.py --json hostile_files.json

Builds a folder of broken, lying and odd files from real clips, runs the stage on it as a user would, and
holds every file against its row. What lies outside the folder is watched: a clip by inotify (Linux only), a
server on this machine by its own count.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import hostile_boxes, hostile_links
from benchmarks.hostile_kinds import KINDS, Given
from motive.video.reading import read_frames
from motive.video.writing import write_video
from testing.commands import COMMAND
from testing.made_clips import SIZE, encode, remux
from testing.measuring import JsonFile, report
from testing.outside import counting, watched
from testing.real_clips import real_clip
from testing.whole_project import SPLITS, write_clips_params

assert hostile_boxes, hostile_links  # they enter their kinds
SECRET = "the-secret-caption"
CODECS: dict[str, dict[str, Any]] = {  # by container
    "webm": {"codec": "libvpx-vp9"},
    "flv": {"codec": "flv"},
    "wmv": {"codec": "wmv2"},
    "ogv": {"codec": "libvpx"},
    "mpg": {"codec": "mpeg2video", "rate": 25},
    "avi": {"codec": "mpeg4"},
    "mp4": {"codec": "libx264"},
}
ROWS = (  # names in a metadata file; none may be read
    "/etc/passwd",
    "../outside/secret.mp4",
    "a/../../outside/secret.mp4",
    "file:{secret}",
    "{secret}",
    "http://127.0.0.1:{port}/a.mp4",
    "concat:{secret}|{secret}",
    "subfile,,start,0,end,0,,:{secret}",
    "/dev/stdin",
    "pipe:0",
    "good.mp4\0.txt",
    "out/secret.mp4",
    "~/a.mp4",
    ".",
    "",
    "x" * 70_000,
)


class Upload(NamedTuple):
    """A file as the tables name it."""

    split: str
    file: str


class Outcome(NamedTuple):
    """What became of a file: usable, failed or lost; and why."""

    kind: str
    outcome: str
    reason: str


def main(
    json_file: JsonFile = None,
    files_per_kind: Annotated[int, typer.Option(min=1, help="Files of each fuzzed kind.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same files.")] = 0,
    time_limit: Annotated[float, typer.Option(help="Seconds a file may take.")] = 30.0,
) -> None:
    """Build the folder, run `motive clips` on it, print what became of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        numbers, outcomes = measure(Path(folder), files_per_kind, seed, time_limit)
    print_table(outcomes)
    report(numbers, json_file)


def measure(
    folder: Path, files_per_kind: int, seed: int, time_limit: float
) -> tuple[dict[str, int], list[Outcome]]:
    """The numbers, and the outcome of each file, of a hostile folder that is built and read in `folder`."""
    (folder / "outside").mkdir(parents=True)
    secret = folder / "outside" / "secret.mp4"
    with counting() as (url, hits):
        given = given_clips(secret, url)
        files = build(folder / "pool", given, files_per_kind, seed)
        files |= build_rows(folder / "queries", given, url)
        with watched(secret.parent) as opened:
            codes = run(folder, time_limit, len(files))
    outcomes = list(compared(folder, files))
    tables = folder.glob("data/*/clips/*.parquet")
    leaked = sum(SECRET in str(pd.read_parquet(path).to_json()) for path in tables)
    reasons = [outcome.reason for outcome in outcomes]
    return {
        "kinds_tried": len({outcome.kind for outcome in outcomes}),
        "files_tried": len(files),
        "usable": sum(outcome.outcome == "usable" for outcome in outcomes),
        "crashed": sum(reason.startswith("crashed") for reason in reasons) + sum(map(bool, codes)),
        "hung": sum(reason.startswith("hung") for reason in reasons) + codes.count(None),
        "escaped": len(hits) + len(opened) + leaked,
        "without_reason": sum(outcome.outcome == "lost" for outcome in outcomes),
        "unexpected": sum(map(unexpected, outcomes)),
    }, outcomes


def given_clips(secret: Path, url: str) -> Given:
    """Real clips, or rendered ones where these can't be fetched, in every container."""
    try:
        whole = {name: real_clip(name) for name in ("bikes.mp4", "globe.avi", "city.mpg")}
        frames = read_frames(whole["bikes.mp4"], 24, 12.0, *SIZE, "window")
    except RuntimeError:
        from toyworld import MOTIONS, draw_clip, sample_scene

        whole = {}
        frames = draw_clip(sample_scene(np.random.default_rng(0), MOTIONS[0]), 24, 12.0).frames[:, :48]
    write_video(secret, frames[::-1], 12.0)
    secret.with_suffix(".txt").write_text(SECRET)
    return Given(frames, dict(containers(frames, whole)), secret, url)


def containers(frames: np.ndarray, whole: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    """(container, bytes of a clip in it)."""
    real = {path.suffix: path for path in whole.values()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield "gif", encode(folder / "a.gif", frames, codec="gif", pix_fmt="rgb8").read_bytes()
        for suffix, settings in CODECS.items():
            made = folder / f"a.{suffix}"
            clip = real.get(f".{suffix}") or encode(made, np.repeat(frames, 2, axis=0), **settings)
            yield suffix, clip.read_bytes()
        source = real.get(".mp4") or folder / "a.mp4"
        for container in ("mkv", "ts"):
            yield container, remux(source, folder / f"b.{container}").read_bytes()


# ---- the folders


def build(folder: Path, given: Given, files_per_kind: int, seed: int) -> dict[Upload, str]:
    """The kind of each file made."""
    files = {}
    for number, (name, kind) in enumerate(sorted(KINDS.items())):
        (folder / name).mkdir(parents=True)
        for copy in range(files_per_kind if kind.fuzzed else 1):
            path = folder / name / f"{copy:03}.{kind.suffix}"
            kind.make(path, given, np.random.default_rng([seed, number, copy]))
        made = [path for path in (folder / name).iterdir() if path.suffix != ".txt"]
        files |= {Upload("pool", printable(path.relative_to(folder).as_posix())): name for path in made}
    (folder / "folder_named.mp4").mkdir()
    (folder / "linked_folder.mp4").symlink_to(given.secret.parent)
    return files


def build_rows(folder: Path, given: Given, url: str) -> dict[Upload, str]:
    """A folder whose metadata leads out of it: the kind of each row."""
    folder.mkdir()
    write_video(folder / "good.mp4", given.frames, 12.0)
    (folder / "out").symlink_to(given.secret.parent)
    names = [row.format(secret=given.secret, port=url.rsplit(":", 1)[1]) for row in ROWS]
    lines = [json.dumps({"file_name": name, "caption": "x"}) for name in [*names, "good.mp4"]]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    places = [f"metadata.jsonl line {number}" for number in range(1, len(names) + 1)]
    rows = {Upload("queries", place): "row_that_leads_out" for place in places}
    return rows | {Upload("queries", "good.mp4"): "row_of_a_good_clip"}


def printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


# ---- the run


def run(folder: Path, time_limit: float, num_files: int) -> list[int | None]:
    """The exit codes of the stage on both folders; None where it never ended."""
    source = {split: str(folder / split) for split in SPLITS}
    write_clips_params(folder, source, max_failed_fraction=1.0, time_limit=time_limit)
    codes: list[int | None] = []
    for split in ("pool", "queries"):
        command = [*COMMAND, "clips", split]
        try:
            codes.append(subprocess.run(command, cwd=folder, timeout=60 + time_limit * num_files).returncode)
        except subprocess.TimeoutExpired:
            codes.append(None)
    return codes


# ---- the outcomes


def compared(folder: Path, files: dict[Upload, str]) -> Iterator[Outcome]:
    """The outcome of each file: it must be in exactly one of the tables, with a reason if it failed."""
    usable = Counter(upload for upload, _ in rows_of(folder, "clips"))
    failures = list(rows_of(folder, "failures"))
    failed = Counter(upload for upload, _ in failures)
    reasons = dict(failures)
    for upload, kind in files.items():
        reason = reasons.get(upload, "")
        match usable[upload], failed[upload]:
            case 1, 0:
                yield Outcome(kind, "usable", "")
            case 0, 1 if reason.strip():
                yield Outcome(kind, "failed", reason)
            case _:
                yield Outcome(kind, "lost", reason)


def rows_of(folder: Path, table: str) -> Iterator[tuple[Upload, str]]:
    """File and reason of each row of a table of the clips stage; usable clips have no reason."""
    for split in ("pool", "queries"):
        path = folder / "data" / split / "clips" / f"{table}.parquet"
        rows = pd.read_parquet(path).to_dict("records") if path.is_file() else []
        for row in rows:
            yield Upload(split, row.get("file") or row.get("video", "")), row.get("reason", "")


def unexpected(outcome: Outcome) -> bool:
    expected = {"row_that_leads_out": "failed", "row_of_a_good_clip": "usable"}.get(outcome.kind)
    expected = expected or KINDS[outcome.kind].expected
    return expected not in ("either", outcome.outcome)


def print_table(outcomes: list[Outcome]) -> None:
    """A row a kind."""
    from rich.console import Console
    from rich.table import Table

    table = Table("kind", "files", "usable", "failed", "not as expected", "for example")
    for name in sorted({outcome.kind for outcome in outcomes}):
        own = [outcome for outcome in outcomes if outcome.kind == name]
        count = Counter(outcome.outcome for outcome in own)
        example = Counter(outcome.reason for outcome in own if outcome.reason).most_common(1)
        cells = (len(own), count["usable"], count["failed"], sum(map(unexpected, own)) or "")
        table.add_row(name, *map(str, cells), *(reason[:90] for reason, _ in example))
    Console(markup=False, width=170).print(table)


if __name__ == "__main__":
    typer.run(main)
