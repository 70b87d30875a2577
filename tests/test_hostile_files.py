"""A hostile folder, small: one file of each kind through the real stage."""

import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from testing.commands import run_benchmark
from testing.outside import counting, watched

pytestmark = pytest.mark.slow


def test_no_hostile_file_crashes_hangs_leaves_the_folder_or_gets_lost(tmp_path: Path) -> None:
    options = ("--files-per-kind", "1", "--seed", "1", "--time-limit", "60")
    numbers = run_benchmark("hostile_files", tmp_path, *options)
    none = ("crashed", "hung", "escaped", "without_reason", "unexpected")
    assert {name: numbers[name] for name in none} == dict.fromkeys(none, 0)
    assert numbers["kinds_tried"] >= 40


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_an_escape_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    with watched(tmp_path) as opened, counting() as (url, hits):
        (tmp_path / "secret.mp4").read_bytes()
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"{url}/a.mp4")
        missing.value.close()
    assert (len(opened), hits) == (1, ["/a.mp4"])
