"""Shards: what is read back of a published folder, and a damaged one is made again."""

import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save

from motive.store import shards, work
from testing.toy_stage import BAD, GOOD, IDS, RECIPE, compute, digests, run


def test_a_published_folder_says_what_it_is(unbroken: dict[str, str]) -> None:
    manifest = shards.read_manifest(Path("unbroken"))
    names = ["00000000-00000006", "00000006-00000012", "00000012-00000018", "00000018-00000020"]
    assert manifest["shards"] == [f"{name}.safetensors" for name in names]
    assert (manifest["stage"], manifest["version"], manifest["params"]) == ("toy", 1, {"scale": 2})
    assert (manifest["digest"], manifest["num_clips"]) == (RECIPE.digest, 18)
    failures = pd.read_parquet("unbroken/failures.parquet")
    assert list(failures) == ["clip_id", "kind", "reason"]
    assert work.read_failures(Path("unbroken")) == BAD
    assert dict(zip(failures["clip_id"], failures["reason"], strict=True)) == {
        clip_id: failure.reason for clip_id, failure in BAD.items()
    }
    assert set(unbroken) == {*manifest["shards"], "manifest.json", "failures.parquet"}


def test_tensors_come_back_in_row_order_stacked_or_ragged(unbroken: dict[str, str]) -> None:
    where = shards.locate(Path("unbroken"))
    read = list(shards.read_clip_tensors(where, list(where)))
    assert [clip_id for clip_id, _ in read] == GOOD
    for clip_id, tensors in read:
        wanted = compute(clip_id)
        assert tensors.keys() == wanted.keys()
        for name in wanted:
            assert tensors[name].dtype == wanted[name].dtype
            assert torch.equal(tensors[name], wanted[name])
    clip_ids, values = shards.read_stacked(Path("unbroken"), "values")
    assert torch.equal(values, torch.stack([compute(clip_id)["values"] for clip_id in clip_ids]))


@pytest.mark.parametrize(
    "clip_ids",
    [IDS, GOOD, IDS[::-1], [*GOOD[:3], "of another pool", *GOOD[3:]], GOOD[4:], [IDS[-1], *BAD, *IDS[:2]]],
    ids=["all", "those there are", "backwards", "one more", "fewer", "some"],
)
def test_tensors_come_back_in_the_order_given_and_as_zeros_where_there_is_none(clip_ids, unbroken) -> None:
    (values,) = shards.read_aligned(Path("unbroken"), clip_ids, "values")
    for clip_id, value in zip(clip_ids, values, strict=True):
        assert torch.equal(value, compute(clip_id)["values"] if clip_id in GOOD else torch.zeros_like(value))


def test_a_published_file_can_be_read_by_others(unbroken: dict[str, str]) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in Path("unbroken").iterdir()} == {0o666 & ~umask}


DAMAGES = {
    "empty": lambda content: b"",
    "half a header": lambda content: content[:100],
    "header without data": lambda content: content[: 8 + int.from_bytes(content[:8], "little")],
    "a byte short": lambda content: content[:-1],
    "a byte long": lambda content: content + b"0",
    "no shard of ours": lambda content: save({"values": torch.zeros(2)}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_is_made_again(damage: str, unbroken: dict[str, str]) -> None:
    run(out="first")
    chunk = sorted(RECIPE.store.glob("*.safetensors"))[0]
    lost = shards.read_ids(chunk)
    content = chunk.read_bytes()
    chunk.unlink()  # the published shard is the same file
    chunk.write_bytes(DAMAGES[damage](content))
    assert run() == len(lost)
    assert digests() == unbroken


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_published_shard_is_told_and_published_again(damage: str, unbroken: dict[str, str]) -> None:
    run()
    shard = shards.shard_paths(Path("out"))[1]
    content = shard.read_bytes()
    shard.unlink()  # the chunk in the store is the same file
    shard.write_bytes(DAMAGES[damage](content))
    for read in (shards.locate, lambda out: shards.read_stacked(out, "values")):
        with pytest.raises(ValueError, match=rf"{shard} is missing or damaged .*: run its stage again"):
            read(Path("out"))
    assert run() == 0
    assert digests() == unbroken


def test_a_published_shard_that_is_gone_comes_back(unbroken: dict[str, str]) -> None:
    run()
    shards.shard_paths(Path("out"))[2].unlink()
    with pytest.raises(ValueError, match="is missing or damaged"):
        shards.locate(Path("out"))
    assert run() == 0
    assert digests() == unbroken
