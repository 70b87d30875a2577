"""A strategy chooses the subset to train on: all that fine-tuning knows, so that a baseline is a strategy."""

import json
import logging
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from motive.clips.table import STILL, read_clips
from motive.maths.seeds import seed_of
from motive.params import Curation, Params
from motive.store.files import read_table, write_table

log = logging.getLogger("motive")

OUT = Path("data/curation")
Chosen = pd.DataFrame  # clip_id, why; the best first


def run(params: Params) -> None:
    """Write `data/curation`: the chosen clips with the reason for each.

    Raises:
        ValueError: fewer clips are usable than `curation.fraction` asks for.
    """
    curation, pool = params.curation, read_clips("pool")
    ranking: Any = read_table(Path("data/attribution/ranking.parquet"))
    usable = trainable(ranking)
    part = num_wanted(curation.fraction, len(ranking))
    count = {"full": len(usable), "drop_worst": max(1, len(usable) - part)}.get(curation.strategy, part)
    subset = STRATEGIES[curation.strategy](usable, curation).head(count).reset_index(drop=True)
    subset = pd.DataFrame({"clip_id": subset["clip_id"], "rank": range(len(subset)), "why": subset["why"]})
    from motive.checks import check  # loads for seconds

    check("subset", subset, file=OUT / "subset.parquet", pool=pool, num_selected=count)
    write_table(OUT / "subset.parquet", subset)
    summary = {
        "strategy": curation.strategy,
        "num_pool": len(ranking),
        "num_usable": len(usable),
        "num_selected": len(subset),
    }
    (OUT / "curation.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    _tell(subset, pool, summary)


def trainable(ranking: pd.DataFrame) -> pd.DataFrame:
    """The clips that could be trained on, the best first: still ones too, which influence alone refuses."""
    usable: Any = ranking[ranking["ok"] | (ranking["reason"] == STILL)]
    return usable.sort_values("rank")


def num_wanted(fraction: float, num_pool: int) -> int:
    """That fraction of the pool, rounded up; of the decimal as written, since 0.07 * 100 is over 7."""
    return max(1, math.ceil(Fraction(str(fraction)) * num_pool))


# ---- the strategies: usable clips of the ranking -> `clip_id` and `why`, the best first


def by_influence(usable: pd.DataFrame, curation: Curation) -> Chosen:
    """The ranking's own order; a clip without motion has no influence."""
    usable = usable.loc[usable["ok"]]
    num_queries = json.loads(Path("data/attribution/attribution.json").read_text())["num_queries"]
    pairs = zip(usable["votes"], usable["influence"], strict=True)
    return usable.assign(
        why=[f"{votes} of {num_queries} votes, influence {mean:.3f}" for votes, mean in pairs]
    )


def at_random(usable: pd.DataFrame, curation: Curation) -> Chosen:
    """Each clip has its own number by seed and id: clips that come later change no other clip's place."""
    order = [seed_of("curation", curation.seed, clip_id) for clip_id in usable["clip_id"]]
    return usable.assign(order=order, why=f"drawn by seed {curation.seed}").sort_values("order")


def by_motion_magnitude(usable: pd.DataFrame, curation: Curation) -> Chosen:
    """The most motion first."""
    stats = read_table(Path("data/pool/masks/mask_stats.parquet"))
    table = usable[["clip_id"]].merge(stats[["clip_id", "motion"]], on="clip_id", validate="one_to_one")
    table["why"] = [f"moves {motion:.1f} px/s on average" for motion in table["motion"]]
    return table.sort_values(["motion", "clip_id"], ascending=[False, True])


def everything(usable: pd.DataFrame, curation: Curation) -> Chosen:
    """All clips, in row order."""
    return usable.assign(why="the whole pool").sort_values("clip_id")


def without_the_worst(usable: pd.DataFrame, curation: Curation) -> Chosen:
    """The worst teachers last; what has no influence harms nobody, and comes first."""
    return usable.assign(why="not among the worst").sort_values("rank_against", ascending=False)


STRATEGIES: dict[str, Callable[[pd.DataFrame, Curation], Chosen]] = {
    "motive": by_influence,
    "random": at_random,
    "motion_magnitude": by_motion_magnitude,
    "full": everything,
    "drop_worst": without_the_worst,
}


def _tell(subset: pd.DataFrame, pool: pd.DataFrame, summary: dict) -> None:
    captions = dict(zip(pool["clip_id"], pool["caption"], strict=True))
    log.info(
        "curation: strategy %s chose %d of %d clips (%d usable)",
        *(summary[key] for key in ("strategy", "num_selected", "num_pool", "num_usable")),
    )
    for row in subset.head(3).to_dict("records"):
        log.info(
            "curation: rank %s: %s (%s), %r",
            row["rank"],
            row["clip_id"],
            row["why"],
            captions[row["clip_id"]],
        )
    log.info("curation: look at %s; next: motive finetuning", OUT / "subset.parquet")
