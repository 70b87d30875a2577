"""The families of video models that we know, and whose a class of diffusers is."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from motive.models import ltx, wan


@runtime_checkable  # for the shape checks of the tests
class Backbone(Protocol):
    """What a family of models does in its own way: the modules `wan` and `ltx`."""

    def fitting(
        self, vae: dict[str, Any], transformer: dict[str, Any], strides: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        """(channels, frames, height, width) by the configs: frames must be a multiple and one more."""
        ...

    def statistics(self, vae: Any) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
        """Mean and deviation of its latents: the transformer knows them normalised."""
        ...

    def decode(self, vae: Any, z: Float[Tensor, "1 C T h w"]) -> Float[Tensor, "1 3 F H W"]:
        """Pixels in [-1,1] of a latent that is no longer normalised."""
        ...

    def encode_text(
        self, tokenizer: Any, encoder: Any, caption: str, max_tokens: int
    ) -> Float[Tensor, "S E"]:
        """The caption as the pipeline itself would embed it, cut to its true length."""
        ...

    def velocity(
        self,
        transformer: nn.Module,
        noised: Float[Tensor, "B C T h w"],
        sigma: Float[Tensor, "B"],
        text: Float[Tensor, "B S E"],
        fps: float,
    ) -> Float[Tensor, "B C T h w"]:
        """The prediction; text is padded with zeros."""
        ...

    def sampling(self, noise: Float[Tensor, "1 C T h w"], fps: float) -> dict[str, Any]:
        """What the pipeline is called with to start from this noise."""
        ...


FAMILIES: dict[str, Backbone] = {
    "WanPipeline": wan,
    "AutoencoderKLWan": wan,
    "UMT5EncoderModel": wan,
    "WanTransformer3DModel": wan,
    "LTXPipeline": ltx,
    "AutoencoderKLLTXVideo": ltx,
    "T5EncoderModel": ltx,
    "LTXVideoTransformer3DModel": ltx,
}


def family_of(part: Any) -> Backbone:
    """Whose a loaded part is, however it is wrapped: two experts, spread over processes, compiled."""
    inside = part.modules() if isinstance(part, nn.Module) else [part]
    names = (type(module).__name__ for module in inside)
    return next(FAMILIES[name] for name in names if name in FAMILIES)
