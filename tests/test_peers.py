"""The comparison with other libraries: what its numbers mean. The libraries are not installed here."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

from testing.peer_numbers import judged, summary

pytestmark = pytest.mark.slow


def test_a_ratio_above_one_means_that_the_peer_needs_more():
    ours = [{"seconds": s, "mb": 10.0, "spearman": 0.9} for s in (1.0, 2.0)]
    trak = [{"seconds": 3 * s, "mb": 40.0, "spearman": 0.8} for s in (1.0, 2.0)]
    numbers = summary({"ours": ours, "trak": trak})
    assert numbers["time_ratio_trak_low"] == numbers["time_ratio_trak_high"] == pytest.approx(3)
    assert numbers["memory_ratio_trak"] == pytest.approx(4)
    assert numbers["spearman_trak"] == pytest.approx(0.8)


def test_gradients_that_are_only_turned_and_scaled_keep_full_fidelity(tmp_path):
    rng = torch.Generator().manual_seed(0)
    gradients = torch.randn(48, 64, generator=rng)
    pool, queries = normalize(gradients, dim=1).split([40, 8])
    turn = torch.linalg.qr(torch.randn(64, 64, generator=rng)).Q
    save_file({"sketch": 7 * gradients @ turn}, tmp_path / "sketches", {"seconds": "0.5"})
    numbers = judged(tmp_path / "sketches", np.asarray(pool @ queries.T), "float32")
    assert numbers["seconds"] == 0.5
    assert numbers["spearman"] == pytest.approx(1, abs=1e-3)
