"""A ranking in, a subset out: who is chosen, why, and what is refused."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from motive.checks import CheckFailed
from motive.stages import attribution, curation, run_stage
from motive.stages.curation import num_wanted
from motive.store.files import read_table
from testing.sketched_pool import RANKING, ranking
from testing.tiny import small_params, write_masks

pytestmark = pytest.mark.slow

SUBSET = Path("data/curation/subset.parquet")


def subset(**changes) -> pd.DataFrame:
    run_stage(curation, small_params(curation=changes))
    return read_table(SUBSET)


@pytest.fixture
def ranked(pool):
    """A project with its ranking and masks, the last clip still; returns the pool's ids in row order."""
    run_stage(attribution, small_params())
    ids = list(pool)
    write_masks("pool", {one: torch.full((2, 4, 4), n / 10) for n, one in enumerate(ids)})
    table = ranking()
    table.loc[table["clip_id"] == ids[-1], ["status", "reason"]] = "failed", "latents: truncated"
    table.loc[table["clip_id"] == ids[-2], "status"] = "still"
    table["last"] = table["status"] != "ok"
    table.sort_values(["last", "rank"]).drop(columns="last").assign(rank=range(9)).to_parquet(RANKING)
    return ids


def test_motive_takes_the_top_of_the_ranking(ranked):
    chosen = subset(fraction=0.3)
    assert chosen["clip_id"].tolist() == ranking()["clip_id"][:3].tolist()
    assert chosen["why"].str.match(r"\d of 4 votes, influence -?0\.\d{3}$").all()
    summary = json.loads(Path("data/curation/curation.json").read_text())
    assert (summary["strategy"], summary["num_pool"], summary["num_selected"]) == ("motive", 9, 3)


def test_influence_never_takes_a_still_clip_and_chance_may(ranked):
    assert ranked[-2] not in subset(fraction=0.7)["clip_id"].tolist()
    assert ranked[-2] in subset(strategy="full")["clip_id"].tolist()


def test_full_takes_every_clip_that_can_be_trained_on(ranked):
    assert subset(strategy="full")["clip_id"].tolist() == ranked[:-1]


def test_motion_magnitude_takes_what_moves_most(ranked):
    chosen = subset(strategy="motion_magnitude", fraction=0.3)
    assert chosen["clip_id"].tolist() == ranked[-2:-5:-1]  # the last one is not ok
    assert chosen["why"].tolist()[0] == "moves 70.0 px/s on average"


def test_random_is_drawn_by_its_seed_and_later_clips_disturb_nothing(ranked):
    drawn = {
        seed: subset(strategy="random", fraction=0.8, seed=seed)["clip_id"].tolist() for seed in range(4)
    }
    assert subset(strategy="random", fraction=0.8, seed=1)["clip_id"].tolist() == drawn[1]
    assert len({tuple(order) for order in drawn.values()}) == 4
    table = ranking()
    table.loc[table["clip_id"] == drawn[1][2], "status"] = "failed"  # as if it had not been there
    table.to_parquet(RANKING)
    fewer = subset(strategy="random", fraction=0.7, seed=1)["clip_id"].tolist()
    assert fewer == [one for one in drawn[1] if one != drawn[1][2]][: len(fewer)]


def test_all_strategies_have_one_contract(ranked):
    for strategy in curation.STRATEGIES:
        chosen = subset(strategy=strategy, fraction=0.5)
        assert list(chosen.columns) == ["clip_id", "rank", "why"]
        assert chosen["rank"].tolist() == list(range(len(chosen)))
        assert set(chosen["clip_id"]) <= set(ranked[:-1])


def test_a_ranking_of_an_earlier_version_is_refused_with_what_to_run(ranked):
    table = ranking()
    table.assign(ok=table["status"] == "ok").drop(columns="status").to_parquet(RANKING)
    with pytest.raises(ValueError, match=r"no column `status`: run `dvc repro --force"):
        subset(fraction=0.3)


def test_a_reason_is_for_people_only(ranked):
    before = subset(strategy="full")
    ranking().assign(reason="anything").to_parquet(RANKING)
    pd.testing.assert_frame_equal(subset(strategy="full"), before)


def test_more_than_there_is_stops_with_advice(ranked):
    with pytest.raises(CheckFailed, match=r"curation\.fraction"):
        subset(fraction=1.0)


@pytest.mark.parametrize(
    ("fraction", "num_pool", "wanted"),
    [(0.1, 1000, 100), (0.07, 100, 7), (0.1, 11, 2), (1e-9, 5, 1), (1.0, 5, 5)],
)
def test_a_fraction_is_rounded_up_as_written(fraction, num_pool, wanted):
    assert num_wanted(fraction, num_pool) == wanted


def test_drop_worst_leaves_out_the_worst_clips_only(pool):
    run_stage(attribution, small_params())
    chosen = set(subset(strategy="drop_worst", fraction=0.34)["clip_id"])
    table = ranking()
    assert len(chosen) == 9 - 4
    assert set(table.sort_values("rank_against")["clip_id"].head(4)).isdisjoint(chosen)
