"""Sketches of pool and queries meet: the influence of each clip on each query, the votes and the ranking."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from motive.clips.facts import read_facts
from motive.clips.ranking import FAILED, OK, STILL, ranked, segment_of, with_best_segment
from motive.clips.table import read_clips
from motive.images.png import write_if_drawn
from motive.images.ranked import best_and_worst_sheet
from motive.maths.influence import Measure, extremes, influence, measure, segment_influence
from motive.maths.ranking import mean_influence, rank, votes, votes_against
from motive.maths.segments import segment_seconds
from motive.maths.statistics import rank_correlation, row_bootstrap_intervals
from motive.params import Attribution, Clips
from motive.store.files import read_table, write_bytes, write_json, write_table
from motive.store.layout import split_folder, stage_folder
from motive.store.recipes import deciding, differences
from motive.store.shards import read_aligned, read_column, read_ids, read_manifest, read_stacked, shard_paths

log = logging.getLogger("motive")

OUT = stage_folder("attribution")
SKETCHES = stage_folder("sketches", "pool")
QUERY_SKETCHES = stage_folder("sketches", "queries")
NOTHING_MOVES = "nothing moves in it but perhaps the camera: its motion-weighted gradient is zero"
NUM_EXTREMES = 20  # best and worst clips of a motion that best_and_worst.parquet names


def run(*, attribution: Attribution, clips: Clips) -> None:
    """Write `data/attribution`: influence, ranking, and per motion the best and worst clips.

    Raises:
        ValueError: sketches made in different ways, no usable query, or a motion that no query shows.
    """
    # What comes in: pool clips are rows, queries are columns, each in the order of its clip table.
    same_recipe(SKETCHES, QUERY_SKETCHES)
    pool = read_clips("pool")
    ok, sketches = aligned(pool, SKETCHES)
    queries, query_sketches = _usable(read_clips("queries"), QUERY_SKETCHES)
    voters = choose_voters(queries["motion"].tolist(), attribution.motion)
    log.info("attribution: %d of %d pool clips are ok, %d queries vote", ok.sum(), len(pool), len(voters))

    # All queries have influence, whoever votes.
    measured = measure(sketches, torch.from_numpy(ok), attribution.method, attribution.damping)
    matrix = influence(sketches, query_sketches, torch.from_numpy(ok), measured).numpy()
    segments = segment_table(pool, query_sketches[voters], measured, ok, clips)
    ranking = with_best_segment(_ranking(pool, matrix[:, voters], ok, attribution.percentile), segments)
    best_and_worst = _best_and_worst(pool, queries, matrix, ok)
    from motive.checks import check  # loads for seconds

    check("ranking", ranking, file=OUT / "ranking.parquet", pool=pool, num_queries=len(voters))

    # What goes out.
    _write_influence(matrix, ok, pool, queries, voters)
    write_table(OUT / "ranking.parquet", ranking)
    write_table(OUT / "segments.parquet", segments)
    write_table(OUT / "best_and_worst.parquet", best_and_worst)
    write_table(OUT / "confounds.parquet", _confounds(pool, mean_influence(matrix[:, voters]), ok))
    write_if_drawn(
        OUT / "best_and_worst.png",
        lambda: best_and_worst_sheet(best_and_worst, pool, queries, clips),
    )
    _write_summary(ranking, queries.iloc[voters], attribution)
    _report(ranking, pool, attribution.percentile)


# ---- what comes in


def same_recipe(pool: Path, queries: Path) -> None:
    """Sketches are comparable if all that made them is equal.

    Raises:
        ValueError: it is not; says what differs.
    """
    recipes = [deciding(read_manifest(folder)) for folder in (pool, queries)]
    for recipe in recipes:
        recipe["params"].pop("storage", None)  # the same sketches in other dtypes
    lines = "".join(f"\n  {line}" for line in differences(recipes[0], recipes[1]))
    if lines:
        raise ValueError(
            f"pool and queries were sketched in different ways; run `dvc repro`. {pool}, {queries}:{lines}"
        )


def aligned(clips: pd.DataFrame, folder: Path) -> tuple[np.ndarray, torch.Tensor]:
    """ok bool [N] and packed sketches [N,K,D] in the order of the clip table; without a sketch: not ok.

    Raises:
        ValueError: none is ok.
    """
    flags, sketches = read_aligned(folder, clips["clip_id"].tolist(), "ok", "sketch")
    ok = flags.bool()
    if sketches.is_floating_point():  # NaN and infinity stay in a sum; in one go it would copy all to float32
        sums = [rows.reshape(len(rows), -1).sum(1, dtype=torch.float32) for rows in sketches.split(1024)]
        ok &= torch.cat(sums).isfinite()
    if not ok.any():
        raise ValueError(
            f"{folder}: no sketch is ok; see its failures.parquet, and masks.floor: does anything move?"
        )
    return ok.numpy(), sketches


def _usable(queries: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, torch.Tensor]:
    """The queries that are ok, and their packed sketches [Q,K,D]."""
    ok, sketches = aligned(queries, folder)
    if not ok.all():
        log.warning(
            "attribution: %d queries are not ok and ask nothing: %s",
            (~ok).sum(),
            ", ".join(queries["clip_id"].to_numpy()[~ok]),
        )
    return queries.loc[ok].reset_index(drop=True), sketches[torch.from_numpy(ok)]


def choose_voters(motions: list[str], wanted: str) -> list[int]:
    """The queries that vote: all, or those of one motion.

    Raises:
        ValueError: no query shows it.
    """
    voters = [q for q, motion in enumerate(motions) if wanted in ("all", motion)]
    if not voters:
        shown = ", ".join(sorted({motion for motion in motions if motion}))
        raise ValueError(f"attribution.motion is {wanted!r}, which no query shows; it is one of all, {shown}")
    return voters


# ---- the ranking


def _ranking(pool: pd.DataFrame, matrix: np.ndarray, ok: np.ndarray, percentile: float) -> pd.DataFrame:
    """Best first; `rank_against` 0 is the clip that is the most harmful to most queries.

    Args:
        pool: the clip table.
        matrix: influence f32 [N,Q] on the queries that vote.
        ok: bool [N].
        percentile: a query votes for the clips above this percentile of its influences.
    """
    clip_ids = pool["clip_id"].tolist()
    mean = mean_influence(matrix)
    low, high = row_bootstrap_intervals(matrix)
    votes_for = votes(matrix, ok, percentile)
    against = votes_against(matrix, ok, percentile)
    table = pd.DataFrame(
        {
            "clip_id": clip_ids,
            "rank": rank(votes_for, mean, ok, clip_ids),
            "votes": votes_for,
            "rank_against": rank(against, -mean, ok, clip_ids),
            "votes_against": against,
            "influence": np.where(ok, mean, np.nan).astype(np.float32),
            "influence_low": np.where(ok, low, np.nan).astype(np.float32),
            "influence_high": np.where(ok, high, np.nan).astype(np.float32),
        }
    )
    return table.join(_statuses(clip_ids, ok)).sort_values("rank", ignore_index=True)


def _statuses(clip_ids: list[str], ok: np.ndarray) -> pd.DataFrame:
    """`status` of each clip, and `reason`, for people: why it has no influence."""
    sketched_ids, moves = read_stacked(SKETCHES, "ok")
    moving = dict(zip(sketched_ids, moves.tolist(), strict=True))
    failures = read_table(SKETCHES / "failures.parquet")  # of the stages before, too
    reasons = dict(zip(failures["clip_id"], failures["reason"], strict=True))
    rows = []
    for clip_id, usable in zip(clip_ids, ok, strict=True):
        if usable:
            rows.append((OK, ""))
        elif clip_id in reasons:
            rows.append((FAILED, f"sketches: {reasons[clip_id]}"))
        elif clip_id not in moving:
            rows.append((FAILED, "an earlier stage has no result for it"))
        elif moving[clip_id]:
            rows.append((FAILED, "sketches: its sketch is not finite"))
        else:
            rows.append((STILL, NOTHING_MOVES))
    return pd.DataFrame(rows, columns=["status", "reason"])


def segment_table(
    pool: pd.DataFrame,
    query_sketches: torch.Tensor,
    measured: Measure | None,
    ok: np.ndarray,
    clips: Clips,
) -> pd.DataFrame:
    """What each segment of a clip adds to the clip's mean influence.

    Returns:
        `clip_id`, `segment`, `start` and `end` in seconds of the clip, `influence`; without rows where
        `sketches.segments` is 1.
    """
    settings = read_manifest(SKETCHES)["params"]
    columns = ["clip_id", "segment", "start", "end", "influence"]
    if settings["segments"] == 1:
        return pd.DataFrame(columns=columns)
    bounds = segment_seconds(clips.num_frames, settings["time_stride"], settings["segments"], clips.fps)
    usable = set(pool["clip_id"].to_numpy()[ok])
    rows = []
    for clip_id, added in _segment_influences(usable, query_sketches, measured):
        rows += [(clip_id, s, bounds[s], bounds[s + 1], value) for s, value in enumerate(added)]
    return pd.DataFrame(rows, columns=columns)


def _segment_influences(
    usable: set[str], query_sketches: torch.Tensor, measured: Measure | None
) -> Iterator[tuple[str, list[float]]]:
    """Yield each of these clips, shard by shard, with what each of its segments adds."""
    for path in shard_paths(SKETCHES):
        clip_ids = read_ids(path)
        kept = [row for row, clip_id in enumerate(clip_ids) if clip_id in usable]
        added = segment_influence(read_column(path, "segments")[kept], query_sketches, measured)
        yield from zip([clip_ids[row] for row in kept], added.tolist(), strict=True)


# ---- what else is written


def _best_and_worst(
    pool: pd.DataFrame, queries: pd.DataFrame, matrix: np.ndarray, ok: np.ndarray
) -> pd.DataFrame:
    """`motion`, `clip_id`, `rank` (0 best, of the ok clips) and mean `influence` on the motion's queries."""
    clip_ids = pool["clip_id"].tolist()
    rows = [
        (extreme.motion, clip_ids[extreme.row], extreme.rank, extreme.influence)
        for extreme in extremes(matrix, ok, queries["motion"].tolist(), NUM_EXTREMES)
    ]
    return pd.DataFrame(rows, columns=["motion", "clip_id", "rank", "influence"])


def _confounds(pool: pd.DataFrame, mean: np.ndarray, ok: np.ndarray) -> pd.DataFrame:
    """`fact`, and how far the mean influence follows it, with and without the gradient's length."""
    facts: Any = read_facts(pool, split_folder("pool"))[ok]
    clip_ids, norm = read_stacked(SKETCHES, "norm")
    norms = pd.Series(norm.mean(1).numpy(), clip_ids).reindex(facts.index).to_numpy()
    cosine = mean[ok].astype(float)
    rows = []
    for name in facts:
        fact = facts[name].to_numpy(float)
        rows.append((name, rank_correlation(fact, cosine), rank_correlation(fact, cosine * norms)))
        if not np.isnan(rows[-1][1]):
            log.info("attribution: rank correlation with %s %+.2f (%+.2f before unit norm)", *rows[-1])
    return pd.DataFrame(rows, columns=["fact", "influence", "inner_product"])


def _write_influence(
    matrix: np.ndarray, ok: np.ndarray, pool: pd.DataFrame, queries: pd.DataFrame, voters: list[int]
) -> None:
    """influence f32 [N,Q] and ok bool [N]; all usable queries are columns, whoever votes."""
    names = {
        "rows": pool["clip_id"].tolist(),
        "columns": queries["clip_id"].tolist(),
        "voters": queries["clip_id"].iloc[voters].tolist(),
    }
    tensors = {"influence": torch.from_numpy(matrix), "ok": torch.from_numpy(ok)}
    write_bytes(OUT / "influence.safetensors", save(tensors, {"motive": json.dumps(names)}))


def _write_summary(ranking: pd.DataFrame, voters: pd.DataFrame, attribution: Attribution) -> None:
    influences = ranking["influence"].dropna().to_numpy(float)
    summary = {
        "num_pool": len(ranking),
        "num_ok": len(influences),
        "num_queries": len(voters),
        "motion": attribution.motion,
        "motions": sorted(set(voters["motion"])),
        "percentile": attribution.percentile,
        "num_with_votes": len(ranking[ranking["votes"] > 0]),
        "influence_mean": float(influences.mean()),
        "influence_best": float(influences.max()),
        "influence_worst": float(influences.min()),
    }
    write_json(OUT / "attribution.json", summary)


def _report(ranking: pd.DataFrame, pool: pd.DataFrame, percentile: float) -> None:
    captions = dict(zip(pool["clip_id"], pool["caption"], strict=True))
    rows: list[Any] = list(ranked(ranking).head(3).itertuples())
    for row in rows:
        words = f"{row.clip_id}, {row.votes} votes, influence {row.influence:.3f}"
        if segment_of(row):
            words += f", most at {segment_of(row)}"
        log.info("attribution: rank %d: %s, %r", row.rank, words, captions[row.clip_id])
    num_voted = (ranking["votes"] > 0).sum()
    log.info(
        "attribution: %d clips have votes, being above percentile %g of some query", num_voted, percentile
    )
    log.info("attribution: look at %s and %s", OUT / "best_and_worst.png", OUT / "ranking.parquet")
    log.info("attribution: next: motive curation")
