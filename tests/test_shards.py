"""The work store: what is published depends on clips and recipe alone, whatever happened on the way."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import pandas as pd
import pytest
import torch
from safetensors.torch import save

from motive.store import shards, work
from motive.store.files import alone
from motive.store.recipes import Recipe
from motive.store.shards import Tensors
from motive.store.work import Failure

RECIPE = Recipe("toy", 1, {"scale": 2})
IDS = [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(20)]
IDS.sort()
SIZE = 6
BAD = {IDS[4]: Failure("unreadable", "no video stream"), IDS[13]: Failure("not_finite", "the loss")}
GOOD = [clip_id for clip_id in IDS if clip_id not in BAD]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compute(clip_id: str) -> Tensors:
    """Tensors that only the clip decides: one stacked, one ragged, a number, a flag, a half type."""
    seed = int(clip_id, 16) % 2**31
    values = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
    text = values.repeat(1, 2)[:, : 1 + seed % 5].to(torch.bfloat16)
    return {"values": values, "text": text, "loss": values.sum(), "ok": torch.tensor(seed % 2 == 0)}


def do(chunk: list[str]) -> None:
    tensors = {clip_id: compute(clip_id) for clip_id in chunk if clip_id not in BAD}
    work.write_chunk(RECIPE, tensors, {clip_id: BAD[clip_id] for clip_id in chunk if clip_id in BAD})


def run(clip_ids: list[str] = IDS, size: int = SIZE, out: str = "out") -> int:
    """A whole stage; the number of clips that it had to compute."""
    chunks = work.pending(RECIPE, clip_ids, size)
    for chunk in chunks:
        do(chunk)
    work.publish(RECIPE, clip_ids, size, Path(out))
    return sum(map(len, chunks))


def digests(folder: str | Path = "out") -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


def forget() -> None:
    for path in RECIPE.store.iterdir():
        path.unlink()


@pytest.fixture
def unbroken(project: Path) -> dict[str, str]:
    """What an unbroken run publishes; the store is empty again."""
    assert run(out="unbroken") == len(IDS)
    forget()
    return digests("unbroken")


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


DAMAGES = {
    "empty": lambda content: b"",
    "half a header": lambda content: content[:100],
    "header without data": lambda content: content[: 8 + int.from_bytes(content[:8], "little")],
    "a byte short": lambda content: content[:-1],
    "a byte long": lambda content: content + b"0",
    "no shard of ours": lambda content: save({"values": torch.zeros(2)}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_made_again(damage: str, unbroken: dict[str, str]) -> None:
    run(out="first")
    chunk = sorted(RECIPE.store.glob("*.safetensors"))[0]
    lost, content = shards.read_ids(chunk), chunk.read_bytes()
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


def test_a_folder_that_is_published_again_is_whole_all_the_time(
    unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may be reading it."""
    run()
    for step in range(10):
        _publish_until(step, monkeypatch)
        assert digests() == unbroken


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


def test_a_manifest_stands_only_beside_a_whole_folder(
    unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any of its renames and links, publishing leaves no manifest, not even the one before."""
    run(size=5)
    num_steps = 0
    while not _publish_until(num_steps, monkeypatch):
        assert not Path("out/manifest.json").exists()
        num_steps += 1
    assert num_steps == 6, "four shards, the failures, the manifest"
    assert digests() == unbroken


def _publish_until(step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Publish, but die before the given rename or link; whether it got to the end."""
    left = iter(range(step))

    def dying(call):
        def one(source: Path, target: Path) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            call(source, target)

        return one

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(os, "link", dying(os.link))
        try:
            work.publish(RECIPE, IDS, SIZE, Path("out"))
        except KeyboardInterrupt:
            return False
    return True


def test_a_published_file_can_be_read_by_others(unbroken: dict[str, str]) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in Path("unbroken").iterdir()} == {0o666 & ~umask}


# ---- killed for real

STAGE = """
import os, signal, sys
from test_shards import IDS, SIZE, RECIPE, do
from motive.store import shards, work
kill_at = int(sys.argv[1])
for n, chunk in enumerate(work.pending(RECIPE, IDS, SIZE)):
    if n == kill_at:  # the next file is on the disk, but has no name yet
        os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
    do(chunk)
"""


@pytest.mark.parametrize("kill_at", [0, 2])
def test_a_killed_run_goes_on_where_it_was(kill_at: int, unbroken: dict[str, str]) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    killed = subprocess.run([sys.executable, "-c", STAGE, str(kill_at)], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(RECIPE.store.glob(".*")), "it was killed while it wrote"
    assert sum(map(len, work.pending(RECIPE, IDS, SIZE))) == len(IDS) - kill_at * SIZE
    assert run() == len(IDS) - kill_at * SIZE
    assert digests() == unbroken
    assert json.loads(Path("out/manifest.json").read_text())["num_clips"] == 18


# ---- two at once

ROUNDS = 20
TWIN = """
import sys
import time
from pathlib import Path
import test_shards as t
Path(f"ready{sys.argv[1]}").touch()
while not Path("go").exists():
    time.sleep(0.001)  # a process that spins may keep the other from the processor for minutes
for n in range(t.ROUNDS):
    t.RECIPE = t.Recipe("toy", n)
    t.run(out=f"{sys.argv[2]}/{n}")
    assert len(t.shards.read_stacked(Path(f"{sys.argv[2]}/{n}"), "values")[0]) == 18
"""


@pytest.mark.parametrize("outs", [("out", "out"), ("pool", "queries")])
def test_two_runs_at_once_spoil_nothing(outs: tuple[str, str], unbroken: dict[str, str]) -> None:
    """One store, with a damaged chunk, and one folder or two: both runs come through, again and again."""
    for n in range(ROUNDS):
        broken = Recipe("toy", n).store / "0123456789abcdef.safetensors"
        broken.parent.mkdir(parents=True)
        broken.write_bytes(b"cut off")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    twins = [
        subprocess.Popen([sys.executable, "-c", TWIN, str(n), out], env=env) for n, out in enumerate(outs)
    ]
    while not all(Path(f"ready{n}").exists() for n in range(2)):
        assert all(twin.poll() is None for twin in twins)
        time.sleep(0.01)
    Path("go").touch()
    assert [twin.wait(600) for twin in twins] == [0, 0]
    del unbroken["manifest.json"]  # each round has a recipe of its own
    for folder in (Path(out) / str(n) for out in outs for n in range(ROUNDS)):
        assert digests(folder).items() > unbroken.items()


HOLDER = """
import time
from motive.store.files import alone
with alone("toy pool"):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_second_run_waits_for_the_first_and_for_no_killed_one(caplog: pytest.LogCaptureFixture) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    Timer(0.5, holder.kill).start()
    with caplog.at_level("INFO", "motive"), alone("toy pool"):
        assert holder.wait(5) == -signal.SIGKILL
    holder.stdout.close()
    assert "toy pool: another run is at it; waiting for it to end" in caplog.messages
