"""Influence is the cosine of sketches, in any blocks; what is not ok has none and spoils nothing."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from motive.maths import influence as room
from motive.maths import signs
from motive.maths.influence import Method, extremes, influence, measure, segment_influence
from motive.maths.packing import pack, unit, unpack

METHODS: list[Method] = ["cosine", "centred", "preconditioned"]


def sketches(rows: int, seed: int, levels: int = 2) -> torch.Tensor:
    """Unit sketches [rows, levels, 16] with something in common."""
    rng = torch.Generator().manual_seed(seed)
    common = torch.randn(levels, 16, generator=torch.Generator().manual_seed(99))
    return unit(torch.randn(rows, levels, 16, generator=rng) + common)


def all_ok(rows: int) -> torch.Tensor:
    return torch.ones(rows, dtype=torch.bool)


def test_is_the_mean_of_the_cosines_of_the_noise_levels():
    pool = sketches(7, 0)
    queries = sketches(3, 1)
    matrix = influence(pool, queries, all_ok(7))
    torch.testing.assert_close(matrix, cosine_similarity(pool[:, None], queries[None], dim=-1).mean(-1))
    assert matrix.dtype == torch.float32


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("storage", ["float32", "float16", "int8", "bit"])
def test_a_clip_has_influence_one_on_itself(method, storage):
    pool = pack(sketches(40, 0), storage)
    ok = all_ok(40)
    matrix = influence(pool, pool, ok, measure(pool, ok, method))
    torch.testing.assert_close(matrix.diag(), torch.ones(40), atol=2e-3, rtol=0)
    assert matrix.max() < 1.002


@pytest.mark.parametrize("block", [1, 3, 100])
def test_blocks_change_nothing(block, monkeypatch):
    pool = sketches(7, 0)
    queries = sketches(3, 1)
    whole = influence(pool, queries, all_ok(7))
    monkeypatch.setattr(room, "BLOCK", block * 32)
    torch.testing.assert_close(influence(pool, queries, all_ok(7)), whole)


def test_signs_times_numbers_are_what_they_would_be_as_numbers_in_any_blocks(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    packed = pack(torch.randn(50, 2, 1024, generator=rng), "bit")
    queries = unit(torch.randn(7, 2, 1024, generator=rng))
    queries[1] = 0
    ok = all_ok(50)
    matrix = influence(packed, queries, ok)
    exact = unpack(packed).flatten(1) @ queries.flatten(1).T
    torch.testing.assert_close(matrix, exact, atol=5e-6, rtol=0)
    monkeypatch.setattr(signs, "ROWS", 3)
    assert torch.equal(influence(packed, queries, ok), matrix)
    monkeypatch.setattr(signs, "BYTES", 24)
    monkeypatch.setattr(signs, "COLUMNS", 3)
    torch.testing.assert_close(influence(packed, queries, ok), exact, atol=5e-6, rtol=0)


@pytest.mark.parametrize("query_storage", ["float32", "bit"])
def test_centred_signs_are_centred_as_numbers_would_be(query_storage):
    pool = pack(sketches(600, 0, levels=3), "bit")
    queries = pack(sketches(5, 1, levels=3), query_storage)
    ok = torch.arange(600) % 7 != 0
    centred = measure(pool, ok, "centred")
    assert centred
    torch.testing.assert_close(centred.of_stored, unpack(pool)[ok].mean(0))
    wanted = cosine_similarity(centred(pool)[:, None], centred(queries)[None], dim=-1).mean(-1)
    torch.testing.assert_close(influence(pool, queries, ok, centred)[ok], wanted[ok], atol=2e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_clip_that_is_not_ok_is_zero_and_leaves_the_others_alone(method):
    pool = sketches(6, 0)
    queries = sketches(3, 1)
    ok = torch.tensor([True, False, True, True, True, True])
    others = pool[ok]
    whole = influence(others, queries, all_ok(5), measure(others, all_ok(5), method))
    pool[1] = float("nan")
    matrix = influence(pool, queries, ok, measure(pool, ok, method))
    assert matrix.isfinite().all()
    assert not matrix[1].any()
    torch.testing.assert_close(matrix[ok], whole)


def test_centred_takes_away_what_all_have_in_common():
    pool = sketches(500, 0)
    ok = all_ok(500)
    plain, centred = (influence(pool, pool, ok, measure(pool, ok, method)) for method in METHODS[:2])
    apart = ~torch.eye(500, dtype=torch.bool)
    assert plain[apart].mean() > 0.3
    assert abs(centred[apart].mean()) < 0.01


def test_preconditioned_is_blind_to_a_linear_change_of_the_sketches_as_damping_goes_to_zero():
    """Whitened on both sides: an invertible map of all sketches changes nothing."""
    rng = torch.Generator().manual_seed(5)
    pool = torch.randn(200, 1, 16, generator=rng)
    change = torch.eye(16) + 0.3 * torch.randn(16, 16, generator=rng)
    ok = all_ok(200)
    one, other = (
        influence(x, x[:9], ok, measure(x, ok, "preconditioned", 1e-9)) for x in (pool, pool @ change)
    )
    torch.testing.assert_close(one, other, atol=5e-3, rtol=0)


@pytest.mark.parametrize("rows", [9, 16, 60])  # fewer clips than numbers, as many, more
def test_preconditioned_is_the_formula(rows):
    pool = sketches(rows, 0)
    queries = sketches(3, 1)
    ok = all_ok(rows)
    matrix = influence(pool, queries, ok, measure(pool, ok, "preconditioned", 0.5))
    wanted = torch.zeros(rows, 3, dtype=torch.float64)
    for k in range(2):
        x, q = (s[:, k].double() - pool[:, k].double().mean(0) for s in (pool, queries))
        moment = x.T @ x / rows
        damped = moment + 0.5 * moment.trace() / 16 * torch.eye(16)
        root = torch.linalg.inv(torch.linalg.cholesky(damped))  # any root: only root^T root counts
        wanted += cosine_similarity((x @ root.T)[:, None], (q @ root.T)[None], dim=-1) / 2
    torch.testing.assert_close(matrix, wanted.float(), atol=1e-4, rtol=0)


def test_much_damping_is_centred():
    pool = sketches(60, 0)
    ok = all_ok(60)
    damped = influence(pool, pool, ok, measure(pool, ok, "preconditioned", 1e6))
    torch.testing.assert_close(
        damped, influence(pool, pool, ok, measure(pool, ok, "centred")), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("storage", "near"), [("float32", 1e-5), ("float16", 1e-3), ("int8", 2e-2)])
def test_segments_add_up_to_their_clip(method, storage, near):
    rng = torch.Generator().manual_seed(3)
    segments = torch.randn(20, 4, 2, 16, generator=rng)
    length = segments.sum(1, keepdim=True).norm(dim=-1, keepdim=True) * 2**0.5
    pool = pack(segments.sum(1), storage)
    queries = sketches(5, 1)
    ok = all_ok(20)
    measured = measure(pool, ok, method)
    added = segment_influence(segments / length, queries, measured)
    whole = influence(pool, queries, ok, measured).mean(1)
    torch.testing.assert_close(added.sum(1), whole, atol=near, rtol=0)


@pytest.mark.parametrize(
    ("method", "least"), [("cosine", 0.995), ("centred", 0.992), ("preconditioned", 0.9)]
)
def test_signs_rank_as_full_numbers_do_though_clips_have_something_in_common(method, least):
    rng = torch.Generator().manual_seed(0)
    shared = torch.randn(2, 4096, generator=rng)
    topics = torch.randn(30, 2, 4096, generator=rng)

    def clips(count: int) -> torch.Tensor:
        topic = topics[torch.randint(30, (count,), generator=rng)]
        weight = torch.rand(count, 1, 1, generator=rng)
        return unit(torch.randn(count, 2, 4096, generator=rng) + topic + weight * shared)

    whole = clips(300)
    queries = clips(20)
    ok = all_ok(300)
    signs = pack(whole, "bit")
    exact, by_signs = (influence(pool, queries, ok, measure(pool, ok, method)) for pool in (whole, signs))
    assert cosine_similarity(exact - exact.mean(0), by_signs - by_signs.mean(0), dim=0).mean() > least


@pytest.mark.parametrize("length", [0.2, 0.6])
def test_the_mean_of_sketches_is_known_from_their_signs(length):
    rng = torch.Generator().manual_seed(0)
    shared = length * unit(torch.randn(1, 3, 1024, generator=rng))
    around = (1 - length**2) ** 0.5 * unit(torch.randn(4000, 3, 1024, generator=rng))
    estimate = room._before_signs(unpack(pack(shared + around, "bit")).mean(0))
    assert cosine_similarity(estimate.flatten(), shared.flatten(), dim=0) > 0.99
    assert estimate.norm() == pytest.approx(length, rel=0.02)


@pytest.mark.parametrize(
    ("storage", "least"), [("float32", 1), ("float16", 0.9999), ("int8", 0.9998), ("bit", 0.75)]
)
def test_packed_sketches_keep_their_direction_and_are_of_unit_norm(storage, least):
    whole = unit(torch.randn(9, 3, 512, generator=torch.Generator().manual_seed(0)))
    read = unpack(pack(whole, storage))
    assert cosine_similarity(read.flatten(1), whole.flatten(1)).min() >= least - 1e-6
    torch.testing.assert_close(read.flatten(1).norm(dim=1), torch.ones(9), atol=1e-3, rtol=0)
    torch.testing.assert_close(read.norm(dim=-1), torch.full((9, 3), 3**-0.5), atol=1e-3, rtol=0)


def test_extremes_are_the_ends_of_each_motions_own_order():
    matrix = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    ok = np.arange(30) != 5
    motions = ["roll", "spin", "roll", "spin"]
    ends = list(extremes(matrix, ok, motions, 3))
    for motion, columns in (("roll", [0, 2]), ("spin", [1, 3])):
        mean = np.where(ok, matrix[:, columns].mean(1), -np.inf)
        order = np.argsort(-mean)[:29]
        mine = [e for e in ends if e.motion == motion]
        assert [e.row for e in mine] == [*order[:3], *order[-3:]]
        assert [e.rank for e in mine] == [0, 1, 2, 26, 27, 28]
        np.testing.assert_allclose([e.influence for e in mine], mean[[e.row for e in mine]], rtol=1e-6)


def test_extremes_of_a_small_pool_name_each_clip_once():
    matrix = np.random.default_rng(0).normal(size=(4, 1)).astype(np.float32)
    ends = list(extremes(matrix, np.ones(4, bool), ["roll"], 3))
    assert sorted(e.row for e in ends) == [0, 1, 2, 3]
