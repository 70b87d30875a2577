"""Laws of the projection: it is linear, keeps inner products, and depends on seed and name alone."""

import pytest
import torch

from motive.maths.projection import Fastfood, hadamard


def sketch(projection: Fastfood, gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    total = projection.zeros()
    for name, gradient in gradients.items():
        projection.add(total, name, gradient)
    return projection.close(total)


def test_hadamard_rows_are_orthogonal() -> None:
    q = hadamard(32)
    assert torch.equal(q @ q.T, 32 * torch.eye(32))


@pytest.mark.parametrize("n", [0, 3, 100])
def test_hadamard_wants_a_power_of_two(n: int) -> None:
    with pytest.raises(ValueError, match=r"sketches\.dim"):
        hadamard(n)


@pytest.mark.parametrize("dim", [2, 8, 512])
def test_the_fast_transform_is_the_slow_one(dim: int) -> None:
    x = torch.randn(5, dim, dtype=torch.float32)
    torch.testing.assert_close(Fastfood({}, dim, 0).transform(x), x @ hadamard(dim), atol=1e-3, rtol=1e-4)


def test_inner_products_are_kept_in_expectation_with_the_variance_of_random_projections() -> None:
    torch.manual_seed(0)
    size, dim, trials = 1000, 64, 400
    x, y = torch.randn(size), torch.randn(size)
    products = []
    for seed in range(trials):
        projection = Fastfood({"p": size}, dim, seed)
        products.append(sketch(projection, {"p": x}) @ sketch(projection, {"p": y}))
    products = torch.stack(products)
    theory = ((x.norm() * y.norm()) ** 2 + (x @ y) ** 2) / dim  # of a dense Gaussian projection
    assert abs(products.mean() - x @ y) < 4 * (theory / trials).sqrt()
    assert 0.7 * theory < products.var() < 1.6 * theory


def test_norms_are_kept_for_a_gradient_with_one_entry() -> None:
    x = torch.zeros(700)
    x[123] = 3.0
    norms = torch.stack(
        [sketch(Fastfood({"p": 700}, 64, seed), {"p": x}).pow(2).sum() for seed in range(300)]
    )
    assert norms.mean() == pytest.approx(9.0, rel=0.25)


def test_order_neighbours_and_slices_do_not_matter() -> None:
    gradients = {"a": torch.randn(70, 3), "b": torch.randn(5), "c": torch.randn(4096 * 8 + 9)}
    sizes = {name: g.numel() for name, g in gradients.items()}
    whole = sketch(Fastfood(sizes, 8, 1), gradients)
    reverse = sketch(Fastfood(dict(reversed(sizes.items())), 8, 1), dict(reversed(gradients.items())))
    torch.testing.assert_close(whole, reverse, atol=1e-3, rtol=1e-4)
    alone = sketch(Fastfood({"b": 5}, 8, 1), {"b": gradients["b"]})
    assert torch.equal(alone, sketch(Fastfood(sizes, 8, 1), {"b": gradients["b"]}))


def test_it_is_linear() -> None:
    projection, x, y = Fastfood({"p": 100}, 16, 3), torch.randn(100), torch.randn(100)
    both = sketch(projection, {"p": x + 2 * y})
    torch.testing.assert_close(
        both, sketch(projection, {"p": x}) + 2 * sketch(projection, {"p": y}), atol=1e-4, rtol=1e-4
    )


def test_another_seed_or_name_is_another_projection() -> None:
    x = torch.randn(64)
    first = sketch(Fastfood({"p": 64}, 16, 0), {"p": x})
    assert not torch.allclose(first, sketch(Fastfood({"p": 64}, 16, 1), {"p": x}))
    assert not torch.allclose(first, sketch(Fastfood({"q": 64}, 16, 0), {"q": x}))
