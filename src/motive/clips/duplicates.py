"""Clips that show the same, `data/SPLIT/clips/duplicates.parquet`, and which of them stay."""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np

from motive.clips.fingerprints import read_fingerprints
from motive.clips.pieces import Candidate
from motive.clips.table import write_sorted
from motive.maths.duplicates import kept_for
from motive.store.layout import stage_folder

DUPLICATES = {
    "clip_id": "str",
    "video": "str",
    "start": "float64",  # seconds
    "of": "str",  # the clip_id of the one that stays, or would stay
    "of_video": "str",
    "of_start": "float64",
    "kind": "str",  # exact: the same bytes | near: the same look
    "distance": "float64",  # of the looks, in grey levels
}


class Duplicate(NamedTuple):
    """A candidate that shows what another shows, which goes first."""

    candidate: Candidate
    of: Candidate
    kind: Literal["exact", "near"]
    distance: float


def find_duplicates(candidates: list[Candidate], limit: float) -> list[Duplicate]:
    """Who shows what another shows: the first file stays of the same bytes, the largest of the same look.

    `limit`: grey levels that clips of the same look may differ.
    """
    exact = list(_exact_duplicates(candidates))
    copies = {id(duplicate.candidate) for duplicate in exact}
    seen = [one for one in candidates if one["fingerprint"] and id(one) not in copies]
    return [*exact, *_near_duplicates(seen, limit)]


def _near_duplicates(seen: list[Candidate], limit: float) -> Iterator[Duplicate]:
    if len(seen) < 2:
        return
    seen = sorted(seen, key=lambda one: -one["height"] * one["width"])
    fingerprints = read_fingerprints([one["fingerprint"] for one in seen])
    files = np.unique([one["video"] for one in seen], return_inverse=True)[1]
    for place, (of, distance) in kept_for(fingerprints, files, limit).items():
        yield Duplicate(seen[place], seen[of], "near", distance)


def _exact_duplicates(candidates: Iterable[Candidate]) -> Iterator[Duplicate]:
    """Those of a content that an earlier file has too."""
    first: dict[tuple, Candidate] = {}
    for candidate in candidates:
        if not candidate["kind"]:
            content = (candidate["sha256"], candidate["start"], candidate["end"])
            of = first.setdefault(content, candidate)
            if of is not candidate:
                yield Duplicate(candidate, of, "exact", 0.0)


def drop(duplicates: Iterable[Duplicate], policy: Literal["keep", "drop_exact", "drop_near"]) -> None:
    """Give those that go a kind and a reason. Of one content with one caption only one can stay."""
    for candidate, of, kind, _ in duplicates:
        goes = {"keep": False, "drop_exact": kind == "exact", "drop_near": True}[policy]
        if goes or candidate["clip_id"] == of["clip_id"]:
            candidate["kind"] = {"exact": "duplicate", "near": "near_duplicate"}[kind]
            words = candidate["kind"].replace("_", " ")
            moment = f" at {of['start']:.2f} s" if of["start"] else ""
            candidate["reason"] = f"{words} of {of['video']}{moment}"


def write_duplicates(split: str, duplicates: Iterable[Duplicate]) -> None:
    """Write which clips show the same."""
    rows = [(*_place(candidate), *_place(of), kind, distance) for candidate, of, kind, distance in duplicates]
    path = stage_folder("clips", split) / "duplicates.parquet"
    write_sorted(path, rows, DUPLICATES, by=["video", "start"])


def _place(candidate: Candidate) -> tuple[str, str, float]:
    return candidate["clip_id"], candidate["video"], candidate["start"]
