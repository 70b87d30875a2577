"""A tiny random pipeline of each backbone, of its real diffusers classes and with its real strides."""

from pathlib import Path
from typing import Any

import torch

from testing.tiny import CHANNELS, WORDS
from toyworld.tiny_wan import TEXT_DIM, build_text_encoder

STATISTICS: Any = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [0.5, 2.0, 1.0, 0.1]}


def wan_21_vae() -> Any:
    from diffusers import AutoencoderKLWan  # type: ignore[attr-defined]

    return AutoencoderKLWan(base_dim=8, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, **STATISTICS)


def wan_22_vae() -> Any:
    from diffusers import AutoencoderKLWan  # type: ignore[attr-defined]

    return AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        is_residual=True,
        patch_size=2,
        in_channels=12,
        out_channels=12,
        scale_factor_spatial=16,
        **STATISTICS,
    )


def ltx_vae() -> Any:
    from diffusers import AutoencoderKLLTXVideo  # type: ignore[attr-defined]

    return AutoencoderKLLTXVideo(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
    )


def wan_transformer(in_channels: int = CHANNELS, **more: Any) -> Any:
    from diffusers import WanTransformer3DModel  # type: ignore[attr-defined]

    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=in_channels,
        out_channels=CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=64,
        **more,
    )


def wan(vae: Any, **more: Any) -> Any:
    """A `WanPipeline`."""
    from diffusers import UniPCMultistepScheduler, WanPipeline  # type: ignore[attr-defined]

    tokenizer, text_encoder = build_text_encoder(WORDS)
    scheduler: Any = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return WanPipeline(tokenizer, text_encoder, vae, scheduler, wan_transformer(), **more)


def image_to_video(transformer: Any, **more: Any) -> Any:
    """A `WanImageToVideoPipeline`; beside the latents stand four channels of a mask and an encoded frame."""
    from diffusers import WanImageToVideoPipeline  # type: ignore[attr-defined]

    text = wan(wan_21_vae())
    names = ("tokenizer", "text_encoder", "vae", "scheduler")
    parts = {name: getattr(text, name) for name in names}
    return WanImageToVideoPipeline(**parts, transformer=transformer, **more)


def wan_21_image_to_video() -> Any:
    """Its transformer attends to the frame as CLIP sees it, too."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    transformer = wan_transformer(3 * CHANNELS, image_dim=16, added_kv_proj_dim=24)
    return image_to_video(transformer, image_encoder=CLIPVisionModel(config), image_processor=processor)


def wan_22_image_to_video() -> Any:
    """Two experts, no CLIP."""
    experts = [wan_transformer(3 * CHANNELS) for _ in range(2)]
    return image_to_video(experts[0], transformer_2=experts[1], boundary_ratio=0.9)


def ltx() -> Any:
    """An `LTXPipeline`, its VAE with statistics as if it were trained."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,  # type: ignore[attr-defined]
        LTXPipeline,  # type: ignore[attr-defined]
        LTXVideoTransformer3DModel,  # type: ignore[attr-defined]
    )
    from transformers import T5Config, T5EncoderModel

    tokenizer, umt5 = build_text_encoder(WORDS)
    vae = ltx_vae()
    for name, values in STATISTICS.items():
        getattr(vae, name).copy_(torch.tensor(values))
    transformer = LTXVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        num_layers=2,
        caption_channels=TEXT_DIM,
    )
    names = ("vocab_size", "d_model", "d_kv", "num_heads", "d_ff", "num_layers", "dropout_rate")
    config = T5Config(**{name: getattr(umt5.config, name) for name in names})
    return LTXPipeline(
        FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            shift_terminal=0.1,
        ),
        vae,
        T5EncoderModel(config),
        tokenizer,
        transformer,
    )


BACKBONES = {
    "wan2.1": lambda: wan(wan_21_vae()),
    "ti2v-5b": lambda: wan(wan_22_vae(), expand_timesteps=True),
    "a14b": lambda: wan(wan_21_vae(), transformer_2=wan_transformer(), boundary_ratio=0.875),
    "ltx": ltx,
}
IMAGE_TO_VIDEO = {
    "ti2v-5b": BACKBONES["ti2v-5b"],
    "i2v": wan_21_image_to_video,
    "i2v-a14b": wan_22_image_to_video,
}


def write_backbone(name: str, path: Path) -> None:
    """A model folder in diffusers layout."""
    torch.manual_seed(0)
    (BACKBONES | IMAGE_TO_VIDEO)[name]().save_pretrained(path)
