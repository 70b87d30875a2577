"""One clip's gradient, read parameter by parameter while it is made."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from motive.maths.projection import Projection

Take = Callable[[str, Tensor], None]


def read_gradient(loss: Float[Tensor, ""], model: nn.Module, take: Take, keep_graph: bool = False) -> None:
    """Call `take(name, gradient)` for each trained parameter that the loss depends on.

    As soon as a parameter's gradient is whole it is handed over and dropped, so the whole gradient never
    exists: the peak is the largest parameter.
    """

    def hand_over(name: str, parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        take(name, parameter.grad)
        parameter.grad = None

    hooks = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            hooks.append(parameter.register_post_accumulate_grad_hook(partial(hand_over, name)))
    try:
        loss.backward(retain_graph=keep_graph)
    finally:
        for hook in hooks:
            hook.remove()


def sketch_gradient(
    loss: Float[Tensor, ""], model: nn.Module, projection: Projection, keep_graph: bool = False
) -> Float[Tensor, "D"]:
    """The paper's P g: the projected gradient of a loss over all trained parameters."""
    total = projection.zeros()
    read_gradient(loss, model, lambda name, gradient: projection.add(total, name, gradient), keep_graph)
    return projection.close(total)
