"""The benchmark of a million clips runs on what the project's own readers read; here on a few thousand."""

import pytest
import torch

from benchmarks.million import WAYS, measure, write_store


@pytest.mark.parametrize(("dim", "storage"), WAYS.values())
def test_it_measures_every_step_of_a_small_store(tmp_path, dim, storage):
    write_store(tmp_path, 5000, dim, storage)
    numbers = measure(tmp_path)
    torch.set_num_threads(1)  # as the other tests want it
    steps = ("read_seconds", "influence_seconds", "rank_seconds")
    assert abs(sum(numbers[step] for step in steps) - numbers["query_seconds"]) < 0.005
    assert 0 < numbers["peak_gb"] <= numbers["peak_gb_all"]
