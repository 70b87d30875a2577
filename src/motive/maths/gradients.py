"""One clip's gradient, sketched while it is made."""

from jaxtyping import Float
from torch import Tensor, nn

from motive.maths.projection import Fastfood


def sketch_gradient(loss: Float[Tensor, ""], model: nn.Module, projection: Fastfood) -> Float[Tensor, "D"]:
    """The projected gradient of a loss over all trainable parameters.

    Each parameter's gradient is projected and dropped as soon as it is whole, so the whole gradient never
    exists: the peak is the largest parameter.
    """
    total = projection.zeros()

    def take(name: str, parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        projection.add(total, name, parameter.grad)
        parameter.grad = None

    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hooks = [p.register_post_accumulate_grad_hook(lambda p, name=name: take(name, p)) for name, p in trained]
    try:
        loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    return projection.close(total)
