"""The work store: what is published depends on clips and recipe alone, whatever happened on the way."""

import json
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from motive.store import shards, work
from motive.store.recipes import Recipe
from testing.toy_stage import BAD, IDS, RECIPE, SIZE, compute, digests, do, forget, run

pytestmark = pytest.mark.usefixtures("toy_folder")


@pytest.mark.parametrize("seed", range(4))
def test_order_and_interruptions_change_no_byte(seed: int, unbroken: dict[str, str]) -> None:
    order = random.Random(seed)
    chunks = work.pending(RECIPE, IDS, SIZE)
    order.shuffle(chunks)
    for chunk in chunks[: seed % len(chunks)]:
        do(chunk)
    for clip_id in order.sample(IDS, 3):  # somebody computed single clips, in another run
        do([clip_id])
    run()
    assert digests() == unbroken


def test_the_size_of_earlier_chunks_changes_no_byte(unbroken: dict[str, str]) -> None:
    run(size=20, out="large")
    assert run() == 0
    assert digests() == unbroken


def test_new_clips_cost_only_themselves(unbroken: dict[str, str]) -> None:
    old = [clip_id for n, clip_id in enumerate(IDS) if n not in (0, 7, 19)]
    assert run(old) == len(old)
    assert run() == 3
    assert digests() == unbroken
    assert run(old) == 0
    assert len(shards.locate(Path("out"))) == len(set(old) - set(BAD)), "removed clips stay out"


def test_a_failure_is_not_tried_again_and_gives_way_to_a_result(unbroken: dict[str, str]) -> None:
    run()
    assert work.pending(RECIPE, IDS, SIZE) == []
    work.write_chunk(RECIPE, {IDS[4]: compute(IDS[4])}, {})
    run()
    assert IDS[4] in shards.locate(Path("out"))
    assert pd.read_parquet("out/failures.parquet")["clip_id"].tolist() == [IDS[13]]


def test_a_store_that_was_made_again_is_published(unbroken: dict[str, str]) -> None:
    """Whoever deletes the store wants nothing of before."""
    run()
    forget()
    do(IDS[:SIZE])
    changed = {clip_id: {"values": torch.zeros(2, 3)} for clip_id in IDS[SIZE:]}
    work.write_chunk(RECIPE, changed, {})
    run()
    rows = dict(zip(*shards.read_stacked(Path("out"), "values"), strict=True))
    assert [bool(rows[clip_id].any()) for clip_id in (IDS[0], IDS[-1])] == [True, False]


def test_a_store_takes_in_no_results_of_another_recipe(unbroken: dict[str, str]) -> None:
    other = Recipe("toy", 1, {"scale": 3, "projection": "fold"}, {"model": "tuned"})
    run()
    shutil.copytree(RECIPE.store, other.store)
    message = r"holds another recipe's results.*inputs.model: None, tuned.*params.projection: None, fold"
    with pytest.raises(ValueError, match=rf"(?s){message}.*params.scale: 2, 3"):
        work.pending(other, IDS, SIZE)


def test_another_recipe_shares_nothing(unbroken: dict[str, str]) -> None:
    run()
    others = [
        Recipe("toy", 2, {"scale": 2}),
        Recipe("toy", 1, {"scale": 3}),
        Recipe("toy", 1, {"scale": 2}, {"optical_flow": "1"}),
    ]
    assert len({recipe.digest for recipe in (RECIPE, *others)}) == 4
    assert all(sum(map(len, work.pending(recipe, IDS, SIZE))) == len(IDS) for recipe in others)


def test_an_unfinished_stage_is_not_published(unbroken: dict[str, str]) -> None:
    do(IDS[:5])
    with pytest.raises(ValueError, match=f"neither a result nor a failure for 15 clips, e.g. {IDS[5]}"):
        work.publish(RECIPE, IDS, SIZE, Path("out"))
    assert not Path("out").exists()
    Path("out").mkdir()
    with pytest.raises(ValueError, match=r"out has no manifest\.json: its stage has not finished"):
        shards.shard_paths(Path("out"))


def test_a_failure_that_an_earlier_version_kept_is_tried_again(unbroken: dict[str, str]) -> None:
    run()
    for path in RECIPE.store.glob("*.failures.json"):
        old = {clip_id: failure["reason"] for clip_id, failure in json.loads(path.read_text()).items()}
        path.write_text(json.dumps(old))
    assert run() == len(BAD), "what was made stays, what failed is tried"
    assert digests() == unbroken


def test_a_folder_that_an_earlier_version_published_is_refused_with_what_to_delete() -> None:
    run()
    path = Path("out/failures.parquet")
    table = pd.read_parquet(path)
    table[["clip_id", "reason"]].to_parquet(path)
    with pytest.raises(
        ValueError, match=r"out/failures.parquet is of an earlier version.*Delete out and run"
    ):
        work.pass_on_failures(Recipe("next", 1), Path("out"))
    assert not Recipe("next", 1).store.exists(), "nothing was passed on, not half of it"
    table[["clip_id", "reason"]].head(0).to_parquet(path)
    assert work.read_failures(Path("out")) == {}, "nothing failed: nothing lacks a kind"


def test_a_failure_is_passed_on_with_the_kind_of_its_origin(unbroken: dict[str, str]) -> None:
    after = Recipe("next", 1)
    work.pass_on_failures(after, Path("unbroken"))
    assert work.failed(after) == {
        clip_id: work.Failure(failure.kind, f"unbroken: {failure.reason}") for clip_id, failure in BAD.items()
    }


def test_leftovers_of_another_run_go(unbroken: dict[str, str]) -> None:
    run(IDS[:9], size=5)
    Path("out/.00000000-00000006.safetensors.123").write_bytes(b"half")
    run()
    assert digests() == unbroken
