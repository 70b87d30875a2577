"""The families of video models: Wan and LTX, and those that other packages bring.

A family is named after its pipeline in diffusers. Of ours the classes of the components say whose they
are; a component of another package's is marked with the pipeline when it is loaded, as families share text
encoders.
"""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from motive.extensions import Extension, extension, extension_names, register
from motive.models import ltx, wan
from motive.models.first_frame import FirstFrame, Kind


@runtime_checkable  # for the shape checks of the tests
class Backbone(Protocol):
    """What a family of models does in its own way: the modules `wan` and `ltx`."""

    IMAGE_PIPELINE: str  # diffusers' class that goes on from a first frame; empty: there is none

    def strides(self, vae: Any) -> tuple[int, int]:
        """How many frames and pixels a latent position spans, by the VAE's config."""
        ...

    def fitting(
        self, vae: dict[str, Any], transformer: dict[str, Any], strides: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        """(channels, frames, height, width) by the configs: frames must be a multiple and one more."""
        ...

    def statistics(self, vae: Any) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
        """Mean and std of its latents: the transformer knows them normalised."""
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
        first_frame: FirstFrame | None,
    ) -> Float[Tensor, "B C T h w"]:
        """The prediction; text is padded with zeros."""
        ...

    def first_frame_kind(
        self, index: dict[str, Any], vae: dict[str, Any], transformer: dict[str, Any]
    ) -> Kind | None:
        """How a model is given a first frame, by model_index.json and the configs; None: it is not."""
        ...

    def sampling(
        self, noise: Float[Tensor, "1 C T h w"], fps: float, num_frames: int, image: Any
    ) -> dict[str, Any]:
        """What the pipeline is called with to start from this noise, and this first frame if there is one."""
        ...


FAMILIES: dict[str, Backbone] = {
    "WanPipeline": wan,
    "WanImageToVideoPipeline": wan,
    "AutoencoderKLWan": wan,
    "UMT5EncoderModel": wan,
    "WanTransformer3DModel": wan,
    "LTXPipeline": ltx,
    "AutoencoderKLLTXVideo": ltx,
    "T5EncoderModel": ltx,
    "LTXVideoTransformer3DModel": ltx,
}


MARK = "motive_pipeline"  # on components of families that are not ours


def register_backbone(pipeline: str, family: Backbone, version: str) -> None:
    """Let models of this pipeline of diffusers be used in this process; workers know entry points only.

    `version` stands in recipes: raise it when what the family computes changes.

    Raises:
        ValueError: the pipeline is one of ours.
    """
    register("motive.backbones", pipeline, family, version, tuple(FAMILIES))


def pipeline_names() -> list[str]:
    """The pipelines whose models can be used."""
    ours = [name for name in FAMILIES if name.endswith("Pipeline")]
    return [*ours, *extension_names("motive.backbones")]


def foreign(pipeline: str) -> Extension | None:
    """The family of a pipeline, if another package brings it."""
    return None if pipeline in FAMILIES else extension("motive.backbones", pipeline)


def family_named(pipeline: str) -> Backbone | None:
    """The family of a pipeline, if there is one."""
    other = foreign(pipeline)
    return other.load() if other else FAMILIES.get(pipeline)


def family_of(component: Any) -> Backbone:
    """Whose a loaded component is, however it is wrapped: two experts, spread over processes, compiled."""
    modules = component.modules() if isinstance(component, nn.Module) else [component]
    names = (vars(module).get(MARK, type(module).__name__) for module in modules)
    return next(filter(None, map(family_named, names)))
