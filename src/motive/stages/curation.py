"""A strategy chooses the subset to train on: all that fine-tuning knows, so that a baseline is a strategy."""

import json
import logging
import math
from collections.abc import Callable
from fractions import Fraction

import pandas as pd

from motive.clips.ranking import ranked, read_ranking, trainable
from motive.clips.table import read_clips
from motive.maths.seeds import seed_of
from motive.params import Curation
from motive.store.files import read_table, write_json, write_table
from motive.store.layout import stage_folder

log = logging.getLogger("motive")

OUT = stage_folder("curation")
Chosen = pd.DataFrame  # clip_id, why; the best first


def run(*, curation: Curation) -> None:
    """Write `data/curation`: the chosen clips with the reason for each.

    Raises:
        ValueError: fewer clips are usable than `curation.fraction` asks for.
    """
    pool = read_clips("pool")
    ranking = read_ranking()
    usable = trainable(ranking)
    count = num_wanted(curation.fraction, len(ranking))
    if curation.strategy == "full":
        count = len(usable)
    elif curation.strategy == "drop_worst":
        count = max(1, len(usable) - count)

    chosen = STRATEGIES[curation.strategy](usable, curation).head(count)
    subset = pd.DataFrame(
        {
            "clip_id": chosen["clip_id"].to_numpy(),
            "rank": range(len(chosen)),
            "why": chosen["why"].to_numpy(),
        }
    )
    from motive.checks import check  # loads for seconds

    check("subset", subset, file=OUT / "subset.parquet", pool=pool, num_selected=count)
    write_table(OUT / "subset.parquet", subset)
    summary = {
        "strategy": curation.strategy,
        "num_pool": len(ranking),
        "num_usable": len(usable),
        "num_selected": len(subset),
    }
    write_json(OUT / "curation.json", summary)
    log.info(
        "curation: strategy %s chose %d of %d clips (%d usable)",
        curation.strategy,
        len(subset),
        len(ranking),
        len(usable),
    )
    _report(subset, pool)


def num_wanted(fraction: float, num_pool: int) -> int:
    """That fraction of the pool, rounded up; of the decimal as written, since 0.07 * 100 is over 7."""
    return max(1, math.ceil(Fraction(str(fraction)) * num_pool))


# ---- the strategies: usable clips of the ranking -> `clip_id` and `why`, the best first


def by_influence(usable: pd.DataFrame, curation: Curation) -> Chosen:
    """The ranking's own order; a clip without motion has no influence."""
    usable = ranked(usable)
    num_queries = json.loads((stage_folder("attribution") / "attribution.json").read_text())["num_queries"]
    why = [
        f"{votes} of {num_queries} votes, influence {mean:.3f}"
        for votes, mean in zip(usable["votes"], usable["influence"], strict=True)
    ]
    return usable.assign(why=why)


def at_random(usable: pd.DataFrame, curation: Curation) -> Chosen:
    """Each clip has its own number by seed and id: clips that come later change no other clip's place."""
    order = [seed_of("curation", curation.seed, clip_id) for clip_id in usable["clip_id"]]
    return usable.assign(order=order, why=f"drawn by seed {curation.seed}").sort_values("order")


def by_motion_magnitude(usable: pd.DataFrame, curation: Curation) -> Chosen:
    """The most motion first."""
    stats = read_table(stage_folder("masks", "pool") / "mask_stats.parquet")
    table = usable[["clip_id"]].merge(stats[["clip_id", "motion"]], on="clip_id", validate="one_to_one")
    table["why"] = [f"moves {motion:.1f} px/s on average" for motion in table["motion"]]
    return table.sort_values(["motion", "clip_id"], ascending=[False, True])


def everything(usable: pd.DataFrame, curation: Curation) -> Chosen:
    """All clips, in row order."""
    return usable.assign(why="the whole pool").sort_values("clip_id")


def without_the_worst(usable: pd.DataFrame, curation: Curation) -> Chosen:
    """The most harmful last; what has no influence harms nobody, and comes first."""
    return usable.assign(why="not among the worst").sort_values("rank_against", ascending=False)


STRATEGIES: dict[str, Callable[[pd.DataFrame, Curation], Chosen]] = {
    "motive": by_influence,
    "random": at_random,
    "motion_magnitude": by_motion_magnitude,
    "full": everything,
    "drop_worst": without_the_worst,
}


def _report(subset: pd.DataFrame, pool: pd.DataFrame) -> None:
    captions = dict(zip(pool["clip_id"], pool["caption"], strict=True))
    for row in subset.head(3).to_dict("records"):
        words = f"{row['clip_id']} ({row['why']})"
        log.info("curation: rank %s: %s, %r", row["rank"], words, captions[row["clip_id"]])
    log.info("curation: look at %s; next: motive finetuning", OUT / "subset.parquet")
