"""Influence is the cosine of sketches, in any blocks; what is not ok has none and spoils nothing."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from motive.maths import influence as room
from motive.maths.influence import extremes, influence


def unit(rows: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(rows, 16, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_is_the_cosine():
    pool, queries = unit(7, 0), unit(3, 1)
    found = influence(pool, queries, torch.ones(7, dtype=torch.bool))
    torch.testing.assert_close(found, cosine_similarity(pool[:, None], queries[None], dim=-1))
    assert found.dtype == torch.float32


def test_a_clip_has_influence_one_on_itself_in_half_precision_too():
    pool = unit(5, 0)
    ok = torch.ones(5, dtype=torch.bool)
    torch.testing.assert_close(
        influence(pool.half(), pool.half(), ok).diag(), torch.ones(5), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("block", [1, 3, 100])
def test_blocks_change_nothing(block, monkeypatch):
    pool, queries, ok = unit(7, 0), unit(3, 1), torch.ones(7, dtype=torch.bool)
    whole = influence(pool, queries, ok)
    monkeypatch.setattr(room, "BLOCK", block)
    torch.testing.assert_close(influence(pool, queries, ok), whole)


def test_a_clip_that_is_not_ok_is_zero_and_leaves_the_others_alone():
    pool, queries, ok = unit(4, 0), unit(3, 1), torch.tensor([True, False, True, True])
    whole = influence(pool, queries, torch.ones(4, dtype=torch.bool))
    pool[1] = float("nan")
    found = influence(pool, queries, ok)
    assert found.isfinite().all()
    assert not found[1].any()
    torch.testing.assert_close(found[ok], whole[ok])


def test_extremes_are_the_ends_of_each_motions_own_order():
    matrix = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    ok = np.arange(30) != 5
    motions = ["roll", "spin", "roll", "spin"]
    found = list(extremes(matrix, ok, motions, 3))
    for motion, columns in (("roll", [0, 2]), ("spin", [1, 3])):
        mean = np.where(ok, matrix[:, columns].mean(1), -np.inf)
        order = np.argsort(-mean)[:29]
        mine = [e for e in found if e.motion == motion]
        assert [e.row for e in mine] == [*order[:3], *order[-3:]]
        assert [e.rank for e in mine] == [0, 1, 2, 26, 27, 28]
        np.testing.assert_allclose([e.influence for e in mine], mean[[e.row for e in mine]], rtol=1e-6)


def test_extremes_of_a_small_pool_name_each_clip_once():
    matrix = np.random.default_rng(0).normal(size=(4, 1)).astype(np.float32)
    found = list(extremes(matrix, np.ones(4, bool), ["roll"], 3))
    assert sorted(e.row for e in found) == [0, 1, 2, 3]
