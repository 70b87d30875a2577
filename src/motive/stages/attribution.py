"""Sketches of pool and queries meet: the influence of each clip on each query, the votes and the ranking."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from motive.clips.facts import read_facts
from motive.clips.table import STILL, clip_path, clip_span, read_clips
from motive.images.motion import write_png
from motive.images.sheets import Strip, clip_strip, strip_sheet
from motive.maths.influence import Measure, extremes, influence, measure, segment_influence
from motive.maths.ranking import mean_influence, rank, votes, votes_against
from motive.maths.segments import segment_seconds
from motive.maths.statistics import rank_correlation, row_bootstrap_intervals
from motive.params import Clips, Params
from motive.store.files import read_table, write_table
from motive.store.recipes import deciding, differences
from motive.store.shards import read_aligned, read_column, read_ids, read_manifest, read_stacked, shard_paths

log = logging.getLogger("motive")

OUT = Path("data/attribution")
EXTREMES = 20  # best and worst clips of a motion that best_and_worst.parquet names
PICTURED, PICTURED_MOTIONS = 3, 20  # ... and what the picture shows of them


def run(params: Params) -> None:
    """Write `data/attribution`: influence, ranking, and per motion the best and worst clips.

    Raises:
        ValueError: sketches made in different ways, no usable query, or a motion that no query shows.
    """
    same_recipe(Path("data/pool/sketches"), Path("data/queries/sketches"))
    pool, queries = read_clips("pool"), read_clips("queries")
    ok, sketches = aligned(pool, Path("data/pool/sketches"))
    queries, asked = _usable(queries, Path("data/queries/sketches"))
    voters = choose_voters(queries["motion"].tolist(), params.attribution.motion)
    log.info("attribution: %d of %d pool clips are ok, %d queries vote", ok.sum(), len(pool), len(voters))

    how, fine = params.attribution, torch.from_numpy(ok)
    measured = measure(sketches, fine, how.method, how.damping)
    matrix = influence(sketches, asked, fine, measured).numpy()
    segments = segment_table(pool, asked[voters], measured, ok, params.clips)
    ranking = with_best_segment(_ranking(pool, matrix[:, voters], ok, how.percentile), segments)
    from motive.checks import check  # loads for seconds

    check("ranking", ranking, file=OUT / "ranking.parquet", pool=pool, num_queries=len(voters))
    best_and_worst = _best_and_worst(pool, queries, matrix, ok)
    _write_influence(matrix, ok, pool, queries, voters)
    write_table(OUT / "ranking.parquet", ranking)
    write_table(OUT / "segments.parquet", segments)
    write_table(OUT / "best_and_worst.parquet", best_and_worst)
    write_table(OUT / "confounds.parquet", _confounds(pool, mean_influence(matrix[:, voters]), ok))
    write_png(OUT / "best_and_worst.png", _picture(best_and_worst, pool, queries, params.clips))
    _write_summary(ranking, queries.iloc[voters], params)
    _tell(ranking, pool, params)


# ---- what comes in


def same_recipe(pool: Path, queries: Path) -> None:
    """Sketches are comparable if all that made them is equal.

    Raises:
        ValueError: it is not; says what differs.
    """
    one, other = (deciding(read_manifest(folder)) for folder in (pool, queries))
    for manifest in (one, other):
        manifest["params"].pop("storage", None)  # the same sketches in other number types
    if differ := differences(one, other):
        lines = "".join(f"\n  {line}" for line in differ)
        raise ValueError(
            f"pool and queries were sketched in different ways; run `dvc repro`. {pool}, {queries}:{lines}"
        )


def aligned(clips: pd.DataFrame, folder: Path) -> tuple[np.ndarray, torch.Tensor]:
    """ok bool [N] and packed sketches [N,K,D] in the order of the clip table; without a sketch: not ok.

    Raises:
        ValueError: none is ok.
    """
    ok, found = read_aligned(folder, clips["clip_id"].tolist(), "ok", "sketch")
    fine = ok.bool()
    if found.is_floating_point():  # NaN and infinity stay in a sum; in one go it would copy all to float32
        sums = [rows.reshape(len(rows), -1).sum(1, dtype=torch.float32) for rows in found.split(1024)]
        fine &= torch.cat(sums).isfinite()
    if not fine.any():
        raise ValueError(
            f"{folder}: no sketch is ok; see its failures.parquet, and masks.floor: does anything move?"
        )
    return fine.numpy(), found


def _usable(queries: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, torch.Tensor]:
    """The queries that are ok, and their packed sketches [Q,K,D]."""
    ok, sketches = aligned(queries, folder)
    usable: Any = queries[ok]
    if not ok.all():
        log.warning(
            "attribution: %d queries are not ok and ask nothing: %s",
            (~ok).sum(),
            ", ".join(queries["clip_id"].to_numpy()[~ok]),
        )
    return usable.reset_index(drop=True), sketches[torch.from_numpy(ok)]


def choose_voters(motions: list[str], wanted: str) -> list[int]:
    """The queries that vote: all, or those of one motion.

    Raises:
        ValueError: no query shows it.
    """
    voters = [q for q, motion in enumerate(motions) if wanted in ("all", motion)]
    if not voters:
        known = sorted({motion for motion in motions if motion})
        raise ValueError(
            f"attribution.motion is {wanted!r}, which no query shows; it is one of all, {', '.join(known)}"
        )
    return voters


# ---- what goes out


def _ranking(pool: pd.DataFrame, matrix: np.ndarray, ok: np.ndarray, percentile: float) -> pd.DataFrame:
    """Best first; `rank_against` 0 is the clip that most queries are worst taught by."""
    count, mean = votes(matrix, ok, percentile), mean_influence(matrix)
    clip_ids, against = pool["clip_id"].tolist(), votes_against(matrix, ok, percentile)
    table = pd.DataFrame({"clip_id": clip_ids, "rank": rank(count, mean, ok, clip_ids), "votes": count})
    table["rank_against"], table["votes_against"] = rank(against, -mean, ok, clip_ids), against
    low, high = row_bootstrap_intervals(matrix)
    columns = {"influence": mean, "influence_low": low, "influence_high": high}
    for name, values in columns.items():
        table[name] = np.where(ok, values, np.nan).astype(np.float32)
    table["ok"], table["reason"] = ok, _reasons(clip_ids, ok)
    return table.sort_values("rank", ignore_index=True)


def _reasons(clip_ids: list[str], ok: np.ndarray) -> list[str]:
    """Why a clip is not ok: it has a sketch but nothing moves in it, or a stage before could not do it."""
    sketched = set(read_stacked(Path("data/pool/sketches"), "ok")[0])
    failed: dict[str, str] = {}
    for stage in ("sketches", "latents", "masks", "optical_flow"):
        path = Path("data/pool") / stage / "failures.parquet"
        rows = read_table(path) if path.is_file() else pd.DataFrame({"clip_id": [], "reason": []})
        failed |= {clip: f"{stage}: {why}" for clip, why in zip(rows["clip_id"], rows["reason"], strict=True)}
    lost = "an earlier stage has no result for it"
    reasons = [STILL if clip_id in sketched else failed.get(clip_id, lost) for clip_id in clip_ids]
    return ["" if fine else reason for fine, reason in zip(ok, reasons, strict=True)]


def segment_table(
    pool: pd.DataFrame, asked: torch.Tensor, measured: Measure | None, ok: np.ndarray, clips: Clips
) -> pd.DataFrame:
    """`clip_id`, `segment`, `start` and `end` in seconds of the clip, and what the segment adds to the clip's
    mean influence; without rows where `sketches.segments` is 1."""
    rows, folder = [], Path("data/pool/sketches")
    how = read_manifest(folder)["params"]
    fine = set(pool["clip_id"].to_numpy()[ok]) if how["segments"] > 1 else set()
    for path in shard_paths(folder) if fine else ():
        ids, shares = read_ids(path), read_column(path, "segments")
        kept = torch.tensor([clip_id in fine for clip_id in ids])
        added = segment_influence(shares[kept], asked, measured)
        seconds = segment_seconds(clips.num_frames, how["time_stride"], how["segments"], clips.fps)
        for clip_id, values in zip(np.array(ids)[kept.numpy()], added.tolist(), strict=True):
            rows += [(clip_id, s, seconds[s], seconds[s + 1], value) for s, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["clip_id", "segment", "start", "end", "influence"])


def with_best_segment(table: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """With `segment_start`, `_end` and `_influence` of what adds most to a clip, if parts are told apart."""
    if segments.empty:
        return table
    columns = {name: f"segment_{name}" for name in ("start", "end", "influence")}
    best = segments.sort_values("influence", kind="stable").groupby("clip_id").tail(1)
    return table.merge(best.rename(columns=columns)[["clip_id", *columns.values()]], "left", "clip_id")


def words_of(row: Any) -> str:
    """What stands below a ranked clip: rank, influence, the segment that adds most, caption."""
    where = segment_of(row)
    numbers = f"rank {row.rank}, {'' if where else 'influence '}{row.influence:+.3f}"
    return f"{numbers}{where and f', most at {where}'}\n{row.caption}"


def segment_of(row: Any) -> str:
    """Where the segment that adds most to a clip begins and ends; empty if parts are not told apart."""
    return f"{row.segment_start:.1f} to {row.segment_end:.1f} s" if hasattr(row, "segment_start") else ""


def _confounds(pool: pd.DataFrame, mean: np.ndarray, ok: np.ndarray) -> pd.DataFrame:
    """`fact`, and how far the mean influence follows it, with and without the gradient's length."""
    clip_ids, norm = read_stacked(Path("data/pool/sketches"), "norm")
    facts: Any = read_facts(pool, Path("data/pool"))[ok]
    norms = pd.Series(norm.mean(1).numpy(), clip_ids).reindex(facts.index).to_numpy()
    cosine = mean[ok].astype(float)
    rows = [
        (name, rank_correlation(column, cosine), rank_correlation(column, cosine * norms))
        for name, column in ((name, facts[name].to_numpy(float)) for name in facts)
    ]
    table = pd.DataFrame(rows, columns=["fact", "influence", "inner_product"])
    for fact, after, before in rows:
        if not np.isnan(after):
            log.info(
                "attribution: rank correlation with %s %+.2f (%+.2f before unit norm)", fact, after, before
            )
    return table


def _best_and_worst(
    pool: pd.DataFrame, queries: pd.DataFrame, matrix: np.ndarray, ok: np.ndarray
) -> pd.DataFrame:
    """`motion`, `clip_id`, `rank` (0 best, of the ok clips) and mean `influence` on the motion's queries."""
    found = extremes(matrix, ok, queries["motion"].tolist(), EXTREMES)
    rows = [(e.motion, pool["clip_id"].iloc[e.row], e.rank, e.influence) for e in found]
    return pd.DataFrame(rows, columns=["motion", "clip_id", "rank", "influence"])


def _write_influence(
    matrix: np.ndarray, ok: np.ndarray, pool: pd.DataFrame, queries: pd.DataFrame, voters: list[int]
) -> None:
    """Aside and renamed; all usable queries are columns, whoever votes."""
    names = {"rows": pool["clip_id"].tolist(), "columns": queries["clip_id"].tolist()}
    names |= {"voters": queries["clip_id"].iloc[voters].tolist()}
    OUT.mkdir(parents=True, exist_ok=True)
    aside = OUT / f".influence.safetensors.{os.getpid()}"
    tensors = {"influence": torch.from_numpy(matrix), "ok": torch.from_numpy(ok)}
    aside.write_bytes(save(tensors, {"motive": json.dumps(names)}))
    os.replace(aside, OUT / "influence.safetensors")


def _write_summary(ranking: pd.DataFrame, voters: pd.DataFrame, params: Params) -> None:
    influence = ranking["influence"].dropna().to_numpy(float)
    summary = {
        "num_pool": len(ranking),
        "num_ok": len(influence),
        "num_queries": len(voters),
        "motion": params.attribution.motion,
        "motions": sorted(set(voters["motion"])),
        "percentile": params.attribution.percentile,
        "num_with_votes": len(ranking[ranking["votes"] > 0]),
        "influence_mean": float(influence.mean()),
        "influence_best": float(influence.max()),
        "influence_worst": float(influence.min()),
    }
    (OUT / "attribution.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")


def _picture(table: pd.DataFrame, pool: pd.DataFrame, queries: pd.DataFrame, clips: Clips) -> np.ndarray:
    """Per motion a row: a query, the best and the worst clips as short strips."""
    table, rows = table.merge(pool.drop(columns="motion"), on="clip_id"), []
    for motion, of_motion in list(table.groupby("motion"))[:PICTURED_MOTIONS]:
        best, worst = of_motion.head(PICTURED), of_motion.iloc[PICTURED:].tail(PICTURED)
        query = queries[queries["motion"] == motion].iloc[0]
        strips = [Strip(clip_strip(clip_path(query), clip_span(query), clips), query.caption)]
        for row in [*best.itertuples(), *worst.itertuples()]:
            strips.append(Strip(clip_strip(clip_path(row), clip_span(row), clips), words_of(row)))
        rows.append((str(motion) or "(no motion named)", strips))
    ranks = range(1, PICTURED + 1)
    return strip_sheet(
        ["a query", *(f"best {n}" for n in ranks), *(f"worst {PICTURED + 1 - n}" for n in ranks)], rows
    )


def _tell(ranking: pd.DataFrame, pool: pd.DataFrame, params: Params) -> None:
    captions = dict(zip(pool["clip_id"], pool["caption"], strict=True))
    best: Any = ranking[ranking["ok"]].head(3)
    for row in best.itertuples():
        where = segment_of(row)
        words = (
            f"{row.clip_id}, {row.votes} votes, influence {row.influence:.3f}{where and ', most at '}{where}"
        )
        log.info("attribution: rank %d: %s, %r", row.rank, words, captions[row.clip_id])
    voted, percentile = (ranking["votes"] > 0).sum(), params.attribution.percentile
    log.info("attribution: %d clips have votes, being above percentile %g of some query", voted, percentile)
    log.info("attribution: look at %s and %s", OUT / "best_and_worst.png", OUT / "ranking.parquet")
    log.info("attribution: next: motive curation")
