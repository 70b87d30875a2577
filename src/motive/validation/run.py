"""The whole validation, from corrupted copies to validation.json; it goes on where it was killed."""

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from motive.clips.table import read_clips
from motive.maths.seeds import seed_of
from motive.params import Params
from motive.store.jobs import Job
from motive.store.shards import locate
from motive.validation import report, scores
from motive.validation.baselines import Subject
from motive.validation.corrupted import make_corrupted, table_of_copies
from motive.validation.removal import plan_removals
from motive.validation.retraining import Run, measured_ids, retrain, retraining_job
from motive.validation.rows import Attribution, attributions
from motive.validation.settings import Settings
from motive.validation.truth import add_truth
from motive.validation.variants import choose, make_variants

log = logging.getLogger("motive")
QUERIES = "queries"


def validate(params: Params, settings: Settings, root: str = "validation") -> report.Numbers:
    """Write validation.json and validation.png to `data/ROOT`; returns what is in the first.

    Raises:
        ValueError: a stage that this builds on has not finished.
    """
    pool, asked = add_truth(choose_pool(settings)), drawn(measured_ids(QUERIES), settings.num_queries)
    clip_ids = pool["clip_id"].tolist()
    queries = read_clips(QUERIES).set_index("clip_id", drop=False).loc[asked]
    originals = choose_originals(pool, settings)
    sizes = (len(pool), len(asked), len(originals))
    log.info("validate: %d clips of the pool, %d queries, %d originals to corrupt", *sizes)
    make_corrupted(originals, f"{root}/corrupted", params)
    choose("pool", clip_ids, root)
    choose(QUERIES, asked, root)
    make_variants(root, params)
    copies = read_clips(f"{root}/corrupted")["clip_id"].tolist()
    rows = list(attributions(Subject(clip_ids, copies, asked), root, params))
    of_pool, of_copies = {name: a for name, a, _ in rows}, {name: a for name, _, a in rows}

    numbers: report.Numbers = {**_sizes(settings), "num_pool": len(pool), "num_queries": len(asked)}
    numbers |= _against_copies(of_copies, originals, queries, f"{root}/corrupted", settings)
    numbers |= _against_truth(of_pool, pool, queries["motion"].tolist(), settings)
    numbers |= _against_retraining(of_pool, clip_ids, asked, params, settings)
    report.write(Path("data") / root, numbers)
    return numbers


# ---- which clips


def choose_pool(settings: Settings) -> pd.DataFrame:
    """Pool clips of all kinds, as they come."""
    pool = read_clips("pool")
    known = locate(Path("data/pool/latents")).keys() & locate(Path("data/pool/masks")).keys()
    chosen = drawn([clip_id for clip_id in pool["clip_id"] if clip_id in known], settings.num_pool)
    return pd.DataFrame(pool[pool["clip_id"].isin(chosen)])


def choose_originals(pool: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Pool clips to corrupt: true examples of a motion, or without a truth any that move."""
    good = set(pool.loc[pool["shows"] != "", "clip_id"]) or set(measured_ids("pool"))
    usable = [clip_id for clip_id in pool["clip_id"] if clip_id in good]
    return pd.DataFrame(pool[pool["clip_id"].isin(drawn(usable, settings.num_originals))])


def drawn(clip_ids: list[str], count: int) -> list[str]:
    """So many of these at random, in their order: of more ids the same ones come first."""
    chosen = set(sorted(clip_ids, key=lambda clip_id: seed_of("validation", clip_id))[:count])
    return [clip_id for clip_id in clip_ids if clip_id in chosen]


def half_subsets(num_clips: int, count: int, seed: int) -> Bool[np.ndarray, "M N"]:
    """Random halves, each clip in or out."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(num_clips) < num_clips // 2 for _ in range(count)])


# ---- the comparisons


def _against_copies(
    of_copies: dict[str, Attribution],
    originals: pd.DataFrame,
    queries: pd.DataFrame,
    part: str,
    settings: Settings,
) -> report.Numbers:
    """By the queries of an original's own motion where they are known; and by all queries alike."""
    table = table_of_copies(part)
    shows = originals.set_index("clip_id").loc[table.index, "shows"].to_numpy()
    every = np.ones((len(table), len(queries)), bool)
    own = shows[:, None] == queries["motion"].to_numpy()
    own |= ~own.any(1, keepdims=True)
    return scores.corrupted_numbers(of_copies, table, own, settings) | scores.corrupted_numbers(
        of_copies, table, every, settings, "corrupted_auc_all_queries"
    )


def _against_truth(
    pools: dict[str, Attribution], pool: pd.DataFrame, motions: list[str], settings: Settings
) -> report.Numbers:
    """Precision, where something says what the pool's clips truly show."""
    if set(pool["shows"]) & set(motions):
        return scores.precision_numbers(pools, pool, motions, settings)
    log.info("validate: no precision: nothing says what the pool's clips truly show")
    return {}


def _against_retraining(
    pools: dict[str, Attribution],
    clip_ids: list[str],
    asked: list[str],
    params: Params,
    settings: Settings,
) -> report.Numbers:
    """LDS and removal: all trainings are dealt together, and each is kept as soon as it is done."""
    candidates, heldout = drawn(clip_ids, settings.num_candidates), params.evaluation.clips
    rows, ids = pd.Index(clip_ids).get_indexer(pd.Index(candidates)), np.array(candidates)
    pools = {name: Attribution(a.influence[rows], a.ok[rows]) for name, a in pools.items()}
    subsets = half_subsets(len(ids), settings.num_subsets, settings.seed)
    halves = [Run(tuple(ids[subset].tolist()), settings.seed) for subset in subsets]
    again = [run._replace(seed=settings.seed + 1) for run in halves[: settings.num_repeated]]
    orders = {name: ids[pools[name].order()].tolist() for name in settings.removed_by}
    removals = plan_removals(orders, settings.removal_fraction, settings.removal_seeds)
    removed = list(dict.fromkeys(run for r in removals for run in (*r.runs, *r.against)))
    measured = {QUERIES: asked}
    make = partial(retraining_job, candidates, settings, params)
    lds = make([*halves, *again], measured)
    few = drawn(measured_ids(heldout), settings.num_heldout)
    removing = make(removed, measured | {heldout: few})
    retrain([lds, removing], params)

    motion, plain = (stacked(lds, name) for name in (QUERIES, f"{QUERIES}_plain"))
    numbers = scores.lds_numbers(pools, subsets, motion[: len(halves)], settings)
    numbers |= scores.lds_numbers(pools, subsets, plain[: len(halves)], settings, "lds_plain")
    numbers |= scores.reliability_numbers(motion[: len(again)], motion[len(halves) :], settings)
    losses = {"queries": stacked(removing, QUERIES), "heldout": stacked(removing, heldout)}
    by_run = {part: dict(zip(removing.ids, rows, strict=True)) for part, rows in losses.items()}
    return numbers | scores.removal_numbers(removals, by_run)


def stacked(job: Job, name: str) -> Float[np.ndarray, "runs n"]:
    """One of the losses of each run, mean over noise levels and noises."""
    return np.stack([tensors[name].double().mean((1, 2)).numpy() for tensors in job.kept()])


def _sizes(settings: Settings) -> report.Numbers:
    """How it was done."""
    numbers = asdict(settings)
    return numbers.pop("training") | numbers
