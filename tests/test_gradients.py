"""The streamed sketch is the sketch of the whole gradient."""

import torch
from torch import nn

from motive.maths.exact import exact_cosines, keep_gradients
from motive.maths.gradients import sketch_gradient
from motive.maths.projection import Fastfood


def model_and_projection() -> tuple[nn.Module, Fastfood]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 4))
    return model, Fastfood(32, 5)


def whole(model: nn.Module, projection: Fastfood, loss: torch.Tensor) -> torch.Tensor:
    total = projection.zeros()
    names, parameters = zip(*model.named_parameters(), strict=True)
    for name, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        projection.add(total, name, gradient)
    return projection.close(total)


def test_streamed_is_whole_and_nothing_is_left_behind() -> None:
    model, projection = model_and_projection()
    x = torch.randn(3, 6)
    streamed = sketch_gradient(model(x).pow(2).mean(), model, projection)
    torch.testing.assert_close(streamed, whole(model, projection, model(x).pow(2).mean()))
    assert streamed.norm() > 0
    assert all(p.grad is None for p in model.parameters())
    model(x).sum().backward()  # and no hook eats the gradients of a later training
    assert all(p.grad is not None for p in model.parameters())


def test_a_scaled_loss_changes_the_length_only() -> None:
    """So the paper's 1/F cancels in the cosine."""
    model, projection = model_and_projection()
    x = torch.randn(3, 6)
    one = sketch_gradient(model(x).pow(2).mean(), model, projection)
    eighth = sketch_gradient(model(x).pow(2).mean() / 8, model, projection)
    torch.testing.assert_close(eighth * 8, one)


def test_frozen_parameters_do_not_count() -> None:
    model, projection = model_and_projection()
    x = torch.randn(3, 6)
    everything = sketch_gradient(model(x).pow(2).mean(), model, projection)
    next(model.children()).requires_grad_(False)
    assert not torch.allclose(everything, sketch_gradient(model(x).pow(2).mean(), model, projection))


def test_exact_cosines_are_those_of_whole_gradients():
    model, _ = model_and_projection()
    inputs = [torch.randn(3, 6) for _ in range(4)]

    def loss(x: torch.Tensor) -> torch.Tensor:
        return model(x).pow(2).mean()

    def gradient(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss(x), tuple(model.parameters()))])

    kept = keep_gradients([loss(x) for x in inputs[:3]], model)
    cosines = torch.stack([exact_cosines(loss(x), model, kept) for x in inputs])
    rows = torch.stack([gradient(x) for x in inputs])
    wanted = torch.nn.functional.cosine_similarity(rows[:, None], rows[None, :3], dim=-1)
    torch.testing.assert_close(cosines, wanted)
    torch.testing.assert_close(cosines[:3].diag(), torch.ones(3))


def test_a_gradient_of_zero_has_an_exact_cosine_of_zero():
    model, _ = model_and_projection()
    loss = model(torch.randn(3, 6)).pow(2).mean()
    kept = keep_gradients([loss, 0 * model(torch.randn(3, 6)).sum()], model)
    assert exact_cosines(model(torch.randn(3, 6)).pow(2).mean(), model, kept)[1] == 0
    assert exact_cosines(0 * model(torch.randn(3, 6)).sum(), model, kept).tolist() == [0, 0]
