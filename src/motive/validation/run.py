"""The whole validation, from corrupted copies to validation.json; it goes on where it was killed."""

import logging
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from motive.clips.table import read_clips
from motive.maths.seeds import seed_of
from motive.params import Params
from motive.store.jobs import Job
from motive.store.layout import split_folder, stage_folder
from motive.store.shards import locate
from motive.validation import report, scores
from motive.validation.baselines import Subject
from motive.validation.corrupted import make_corrupted, table_of_copies
from motive.validation.halves import Halves, plan_halves
from motive.validation.removal import plan_removals, runs_of
from motive.validation.retraining import Run, Work, losses_by_run, measured_ids, retraining_job
from motive.validation.rows import Attribution, attributions
from motive.validation.settings import Settings
from motive.validation.truth import add_truth
from motive.validation.variants import choose, make_variants
from motive.workers.missing import make_missing

log = logging.getLogger("motive")
QUERIES = "queries"


def validate(params: Params, settings: Settings, root: str = "validation") -> report.Numbers:
    """Write validation.json and validation.png to `data/ROOT`; returns what is in the first.

    Raises:
        ValueError: a stage that this builds on has not finished.
    """
    pool = add_truth(choose_pool(settings))
    queries = choose_queries(settings)
    originals = choose_originals(pool, settings)
    log.info(
        "validate: %d clips of the pool, %d queries, %d originals to corrupt",
        len(pool),
        len(queries),
        len(originals),
    )
    make_corrupted(originals, f"{root}/corrupted", params)
    subject = Subject(
        pool["clip_id"].tolist(),
        read_clips(f"{root}/corrupted")["clip_id"].tolist(),
        queries["clip_id"].tolist(),
    )
    choose("pool", subject.pool, root)
    choose(QUERIES, subject.queries, root)
    make_variants(root, params)
    of_pool, of_copies = attributions(subject, root, params)

    # How it was done, and what came of it.
    numbers: report.Numbers = asdict(settings)
    numbers |= numbers.pop("training")
    numbers |= {"num_pool": len(pool), "num_queries": len(queries)}
    numbers |= _against_copies(of_copies, originals, queries, f"{root}/corrupted", settings)
    numbers |= _against_truth(of_pool, pool, queries["motion"].tolist(), settings)
    numbers |= _against_retraining(of_pool, subject, params, settings)
    report.write(split_folder(root), numbers)
    return numbers


# ---- which clips


def choose_pool(settings: Settings) -> pd.DataFrame:
    """Pool clips of all kinds, as they come."""
    pool = read_clips("pool")
    made = locate(stage_folder("latents", "pool")).keys() & locate(stage_folder("masks", "pool")).keys()
    chosen = drawn([clip_id for clip_id in pool["clip_id"] if clip_id in made], settings.num_pool)
    return pd.DataFrame(pool[pool["clip_id"].isin(chosen)])


def choose_queries(settings: Settings) -> pd.DataFrame:
    """Query clips in which something moves."""
    chosen = drawn(measured_ids(QUERIES), settings.num_queries)
    return read_clips(QUERIES).set_index("clip_id", drop=False).loc[chosen]


def choose_originals(pool: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Pool clips to corrupt: true examples of a motion, or without a truth any that move."""
    good = set(pool.loc[pool["shows"] != "", "clip_id"]) or set(measured_ids("pool"))
    usable = [clip_id for clip_id in pool["clip_id"] if clip_id in good]
    return pd.DataFrame(pool[pool["clip_id"].isin(drawn(usable, settings.num_originals))])


def drawn(clip_ids: list[str], count: int) -> list[str]:
    """So many of these at random, in their order: of more ids the same ones come first."""
    chosen = set(sorted(clip_ids, key=lambda clip_id: seed_of("validation", clip_id))[:count])
    return [clip_id for clip_id in clip_ids if clip_id in chosen]


# ---- the comparisons


def _against_copies(
    of_copies: dict[str, Attribution],
    originals: pd.DataFrame,
    queries: pd.DataFrame,
    split: str,
    settings: Settings,
) -> report.Numbers:
    """By the queries of an original's own motion where there are any; and by all queries alike."""
    table = table_of_copies(split)
    shows = originals.set_index("clip_id").loc[table.index, "shows"].to_numpy()
    own = shows[:, None] == queries["motion"].to_numpy()
    own |= ~own.any(1, keepdims=True)
    return scores.corrupted_numbers(of_copies, table, own, settings) | scores.corrupted_numbers(
        of_copies, table, np.ones_like(own), settings, "corrupted_auc_all_queries"
    )


def _against_truth(
    pools: dict[str, Attribution], pool: pd.DataFrame, motions: list[str], settings: Settings
) -> report.Numbers:
    """Precision, of all clips and without look-alikes, if something says what the pool's clips truly show."""
    relevant = pool["shows"].to_numpy()[:, None] == np.array(motions)
    if not relevant.any():
        log.info("validate: no precision: nothing says what the pool's clips truly show")
        return {}
    clean = ~pool["alike"].to_numpy(bool)
    return scores.precision_numbers(pools, relevant, settings) | scores.precision_numbers(
        _among(pools, clean), relevant[clean], settings, "precision_clean"
    )


def _against_retraining(
    pools: dict[str, Attribution], subject: Subject, params: Params, settings: Settings
) -> report.Numbers:
    """LDS and removal: all trainings are dealt together, and each is kept as soon as it is done."""
    candidates = drawn(subject.pool, settings.num_candidates)
    pools = _among(pools, np.isin(subject.pool, candidates))
    halves = plan_halves(candidates, settings)
    orders = {name: np.array(candidates)[pools[name].order()].tolist() for name in settings.removed_by}
    removals = plan_removals(orders, settings.removal_fraction, settings.removal_seeds)

    # Removals are measured on held-out clips, too.
    heldout = params.evaluation.clips
    measured = {QUERIES: subject.queries, heldout: drawn(measured_ids(heldout), settings.num_heldout)}
    of_queries = Work(tuple(candidates), {QUERIES: subject.queries}, settings, params)
    jobs = [
        retraining_job(of_queries, halves.once + halves.again),
        retraining_job(replace(of_queries, measured=measured), runs_of(removals)),
    ]
    # The bar says "clip" after it.
    make_missing(jobs, params.machine, params.model.device, "validate: trainings, each a")

    losses = {"queries": losses_by_run(jobs[1], QUERIES), "heldout": losses_by_run(jobs[1], heldout)}
    return _lds_numbers(pools, halves, jobs[0], settings) | scores.removal_numbers(removals, losses)


def _among(pools: dict[str, Attribution], rows: Bool[np.ndarray, "N"]) -> dict[str, Attribution]:
    """The same of some of the clips."""
    return {name: Attribution(pool.influence[rows], pool.ok[rows]) for name, pool in pools.items()}


def _lds_numbers(
    pools: dict[str, Attribution], halves: Halves, job: Job, settings: Settings
) -> report.Numbers:
    """Of the motion-weighted losses, and of the plain ones."""
    motion = losses_by_run(job, QUERIES)
    plain = losses_by_run(job, f"{QUERIES}_plain")
    once = _stacked(motion, halves.once)
    numbers = scores.lds_numbers(pools, halves.subsets, once, settings)
    numbers |= scores.lds_numbers(pools, halves.subsets, _stacked(plain, halves.once), settings, "lds_plain")
    again = _stacked(motion, halves.again)
    return numbers | scores.reliability_numbers(once[: len(again)], again, settings)


def _stacked(losses: dict[str, Float[np.ndarray, "n"]], runs: list[Run]) -> Float[np.ndarray, "runs n"]:
    return np.stack([losses[run.name] for run in runs])
