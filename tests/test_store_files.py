"""Laws of files that appear whole or not at all, and of the one hash."""

import hashlib
import json
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from motive.store import hashes
from motive.store.files import aside, write_json, write_tensors, write_text
from motive.store.layout import split_folder, stage_folder, work_folder


def test_a_file_that_is_not_finished_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError):
        _write_half(path)
    assert path.read_text() == "old"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


def _write_half(path: Path) -> None:
    with aside(path) as place:
        place.write_text("half")
        raise RuntimeError


def test_equal_values_have_equal_bytes(tmp_path):
    write_json(tmp_path / "one.json", {"a": 1, "b": 2})
    write_json(tmp_path / "other.json", {"b": 2, "a": 1})
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()


def test_tensors_have_the_bytes_that_safetensors_gives_them_and_the_mode_of_any_file(tmp_path):
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([True, False]), "empty": torch.empty(0)}
    metadata = {"motive": json.dumps({"rows": ["x"]})}
    write_tensors(tmp_path / "tensors.safetensors", tensors, metadata)
    write_text(tmp_path / "text", "")
    assert (tmp_path / "tensors.safetensors").read_bytes() == save(tensors, metadata)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_digests_have_the_values_that_stores_were_made_with():
    values = {"b": [1, 2.5], "a": None}
    whole = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    assert hashes.values_digest(values) == whole[:16]
    assert hashes.values_digest(values, 32) == whole[:32]
    assert hashes.text_digest("text", 64) == hashlib.sha256(b"text").hexdigest()


def test_a_large_file_is_hashed_again_only_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hashes, "LARGE", 4)
    path = tmp_path / "weights"
    path.write_bytes(b"12345678")
    first = hashes.file_digest(path)
    assert first == hashlib.sha256(b"12345678").hexdigest()
    monkeypatch.setattr(hashes, "hash_file", lambda path: pytest.fail("read again"))
    assert hashes.file_digest(path) == first
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    path.write_bytes(b"123456789")
    assert hashes.file_digest(path) == hashlib.sha256(b"123456789").hexdigest()


def test_places_hang_on_a_root():
    assert stage_folder("masks", "pool") == Path("data/pool/masks")
    assert stage_folder("attribution", root=Path("/p")) == Path("/p/data/attribution")
    assert split_folder("queries", Path("/p")) == Path("/p/data/queries")
    assert work_folder(root=Path("/p")) == Path("/p/.motive/work")
