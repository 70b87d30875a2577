"""The backbones at their published configs, built on the meta device without any weights.

What a config leaves out is the default of its diffusers class. Sources: `convert_wan_to_diffusers.py` and
`convert_ltx_to_diffusers.py` of diffusers, the config files of the Wan2.1 and Wan2.2 repositories.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from motive.models.families import FAMILIES


@dataclass(frozen=True)
class Published:
    """A backbone as its authors published it."""

    hub_id: str
    pipeline: str
    transformer: dict[str, Any]
    vae: dict[str, Any] = field(default_factory=dict)
    num_transformers: int = 1


WAN_14B = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
BACKBONES = [
    Published(
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        "WanPipeline",
        {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    ),
    Published("Wan-AI/Wan2.1-T2V-14B-Diffusers", "WanPipeline", WAN_14B),
    Published(
        "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        "WanPipeline",
        {
            "num_attention_heads": 24,
            "ffn_dim": 14336,
            "num_layers": 30,
            "in_channels": 48,
            "out_channels": 48,
        },
        {
            "base_dim": 160,
            "decoder_base_dim": 256,
            "z_dim": 48,
            "is_residual": True,
            "patch_size": 2,
            "in_channels": 12,
            "out_channels": 12,
            "scale_factor_spatial": 16,
        },
    ),
    Published("Wan-AI/Wan2.2-T2V-A14B-Diffusers", "WanPipeline", WAN_14B, num_transformers=2),
    Published("Lightricks/LTX-Video", "LTXPipeline", {"num_layers": 28}),
]
CLASSES = {
    "WanPipeline": ("WanTransformer3DModel", "AutoencoderKLWan"),
    "LTXPipeline": ("LTXVideoTransformer3DModel", "AutoencoderKLLTXVideo"),
}


def build(backbone: Published) -> tuple[Any, Any]:
    """Its transformer and its VAE on the meta device."""
    import diffusers

    transformer, vae = (getattr(diffusers, name) for name in CLASSES[backbone.pipeline])
    with torch.device("meta"):
        return transformer(**backbone.transformer), vae(**backbone.vae)


def describe(backbone: Published) -> dict[str, Any]:
    """What a row says."""
    transformer, vae = build(backbone)
    family = FAMILIES[backbone.pipeline]
    strides = family.strides(vae.config)
    channels, frames, *sizes = family.fitting(vae.config, transformer.config, strides)
    return {
        "transformer": type(transformer).__name__,
        "parameters": sum(p.numel() for p in transformer.parameters()),
        "transformers": backbone.num_transformers,
        "strides": (*strides, strides[1]),
        "channels": channels,
        "frames": frames,
        "sizes": tuple(sizes),
    }
