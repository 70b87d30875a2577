"""The benchmark of a million clips runs on what the project's own readers read; here on a few thousand."""

from pathlib import Path

import pytest

from testing.commands import run_benchmark

pytestmark = pytest.mark.slow


def test_it_measures_every_step_of_a_small_store(tmp_path: Path) -> None:
    numbers = run_benchmark("million", tmp_path, "--num-clips", "5000", "--rounds", "1")
    steps = ("read_seconds", "influence_seconds", "rank_seconds")
    for prefix in ("", "shipped_"):
        total = sum(numbers[prefix + step] for step in steps)
        assert total == pytest.approx(numbers[f"{prefix}query_seconds"], abs=0.005)
        assert 0 < numbers[f"{prefix}peak_gb"] <= numbers[f"{prefix}peak_gb_all"]
