"""Laws of the projections: linear, they keep inner products, and depend on seed and name alone."""

import pytest
import torch

from motive.maths import projection as room
from motive.maths.projection import KINDS, Fastfood, Fold, Projection, hadamard

KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def sketch(projection: Projection, gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    total = projection.zeros()
    for name, gradient in gradients.items():
        projection.add(total, name, gradient)
    return projection.close(total)


def test_hadamard_rows_are_orthogonal():
    q = hadamard(32)
    assert torch.equal(q @ q.T, 32 * torch.eye(32))


@pytest.mark.parametrize("n", [0, 3, 100])
def test_hadamard_wants_a_power_of_two(n):
    with pytest.raises(ValueError, match=r"sketches\.dim"):
        hadamard(n)


@pytest.mark.parametrize("dim", [2, 8, 512])
def test_the_fast_transform_is_the_slow_one(dim):
    x = torch.randn(5, dim, dtype=torch.float32)
    torch.testing.assert_close(Fastfood(dim, 0).transform(x), x @ hadamard(dim), atol=1e-3, rtol=1e-4)


@pytest.mark.slow
@KIND
@pytest.mark.parametrize("size", [60, 1000, 70_000])  # less than a row, some rows, two chunks
def test_inner_products_are_kept_in_expectation_with_the_variance_of_random_projections(kind, size):
    torch.manual_seed(0)
    dim, trials = 64, 300 if size < 2000 else 60
    x, y = torch.randn(size), torch.randn(size)
    products = torch.stack(
        [(lambda p: sketch(p, {"p": x}) @ sketch(p, {"p": y}))(kind(dim, seed)) for seed in range(trials)]
    )
    theory = ((x.norm() * y.norm()) ** 2 + (x @ y) ** 2) / dim  # of a dense Gaussian projection
    assert abs(products.mean() - x @ y) < 4 * (theory / trials).sqrt()
    most = 1.6 if size > dim else 2.4  # one block: the diagonal terms of Fastfood weigh more
    assert products.var() < most * theory
    if size > dim:
        assert products.var() > 0.5 * theory


@KIND
def test_pieces_of_one_chunk_and_of_the_next_do_not_add_up(kind):
    """The same numbers in two chunks: were their maps alike, the norm would double."""
    size = kind(64, 0)._chunk
    x = torch.randn(size)
    twice = torch.cat([x, x])
    norms = torch.stack([sketch(kind(64, seed), {"p": twice}).square().sum() for seed in range(40)])
    spread = (2 / 64 / 40) ** 0.5 * 2 * x.square().sum()
    assert abs(norms.mean() - 2 * x.square().sum()) < 5 * spread


@pytest.mark.slow
@KIND
def test_norms_are_kept_for_a_gradient_with_one_entry(kind):
    x = torch.zeros(700)
    x[123] = 3.0
    norms = torch.stack([sketch(kind(64, seed), {"p": x}).pow(2).sum() for seed in range(300)])
    assert norms.mean() == pytest.approx(9.0, rel=0.25)


@KIND
def test_order_neighbours_and_shapes_do_not_matter(kind):
    gradients = {"a": torch.randn(70, 3), "b": torch.randn(5), "c": torch.randn(65_536 + 9)}
    whole = sketch(kind(8, 1), gradients)
    torch.testing.assert_close(
        whole, sketch(kind(8, 1), dict(reversed(gradients.items()))), atol=1e-2, rtol=1e-4
    )
    torch.testing.assert_close(
        whole, sketch(kind(8, 1), {n: g.flatten() for n, g in gradients.items()}), atol=1e-2, rtol=1e-4
    )
    projection = kind(8, 1)
    sketch(projection, gradients)
    assert torch.equal(sketch(kind(8, 1), {"b": gradients["b"]}), sketch(projection, {"b": gradients["b"]}))


@KIND
def test_it_is_linear(kind):
    projection, x, y = kind(16, 3), torch.randn(100), torch.randn(100)
    both = sketch(projection, {"p": x + 2 * y})
    apart = sketch(projection, {"p": x}) + 2 * sketch(projection, {"p": y})
    torch.testing.assert_close(both, apart, atol=1e-4, rtol=1e-4)


@KIND
def test_another_seed_or_name_is_another_projection(kind):
    x = torch.randn(64)
    first = sketch(kind(16, 0), {"p": x})
    assert not torch.allclose(first, sketch(kind(16, 1), {"p": x}))
    assert not torch.allclose(first, sketch(kind(16, 0), {"q": x}))


@KIND
def test_half_precision_gradients_are_summed_in_full(kind):
    x = torch.randn(3000).bfloat16()
    torch.testing.assert_close(sketch(kind(16, 0), {"p": x}), sketch(kind(16, 0), {"p": x.float()}))


def test_fastfood_is_the_product_of_the_papers_matrices(monkeypatch):
    """S Q G Pi Q B of one block, each factor written out."""
    monkeypatch.setattr(room, "TABLE", 1)  # every piece begins at 0
    dim = 8
    projection, x = Fastfood(dim, 0), torch.randn(dim)
    q, pi = hadamard(dim), torch.eye(dim)[projection._permutation]
    sign = projection._drawn("p", dim)[0][2]
    b, g = torch.diag(projection._signs[:dim]), torch.diag(projection._gaussians[:dim])
    s = torch.diag(projection._s)
    # Pi after G instead of before it: G Pi = Pi (Pi^T G Pi), and that is as random a diagonal as G.
    wanted = sign * s @ q @ pi @ g @ q @ b @ x / dim
    torch.testing.assert_close(sketch(projection, {"p": x}), wanted)


@pytest.mark.parametrize(("dim", "prime"), [(1, 1), (2, 2), (4, 3), (512, 509), (2048, 2039), (16384, 16381)])
def test_a_fold_has_a_prime_width(dim, prime):
    assert Fold(dim, 0)._width == prime


def test_a_fold_adds_an_entry_to_its_number_modulo_the_prime():
    projection = Fold(8, 0)
    for entry in (0, 3, 7, 20):
        total = projection.zeros()
        x = torch.zeros(30)
        x[entry] = 1.0
        projection.add(total, "p", x)
        assert total.sum(0).abs().nonzero().item() == entry % 7
