"""A stage whose work costs nothing: what it keeps, publishes and forgets."""

import hashlib
from pathlib import Path

import pytest
import torch

from motive.store import work
from motive.store.recipes import Recipe
from motive.store.shards import Tensors
from motive.store.work import Failure

RECIPE = Recipe("toy", 1, {"scale": 2})
IDS = [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(20)]
IDS.sort()
SIZE = 6
BAD = {IDS[4]: Failure("unreadable", "no video stream"), IDS[13]: Failure("not_finite", "the loss")}
GOOD = [clip_id for clip_id in IDS if clip_id not in BAD]


@pytest.fixture
def toy_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
def unbroken(toy_folder: Path) -> dict[str, str]:
    """What an unbroken run publishes; the store is empty again."""
    assert run(out="unbroken") == len(IDS)
    forget()
    return digests("unbroken")
