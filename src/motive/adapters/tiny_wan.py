"""Builds the parts of models/tiny-wan: the real diffusers classes of Wan, small, with random weights."""

from pathlib import Path
from typing import Any

import torch

TEXT_DIM = 64


LATENT_CHANNELS = 12


def build_vae(latents_mean: list[float] | None = None, latents_std: list[float] | None = None) -> Any:
    """An `AutoencoderKLWan` of the Wan 2.2 kind with strides 2x4x4: a small picture has less to spare than a large one."""
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=32,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[True],  # (the class spells it so)
        is_residual=True,
        patch_size=2,
        in_channels=12,
        out_channels=12,
        scale_factor_temporal=2,
        scale_factor_spatial=4,
        latents_mean=latents_mean or [0.0] * LATENT_CHANNELS,
        latents_std=latents_std or [1.0] * LATENT_CHANNELS,
    )


@torch.no_grad()
def start_linear(vae: Any, level: float = 4.0) -> None:
    """Weights from which a VAE learns fast: every residual branch silent, and one loud constant channel.

    The RMS norm before each output divides by the length of the feature vector, and with it throws contrast and colour
    away. Beside a constant that outweighs them they pass almost unchanged.
    """
    for name, p in vae.named_parameters():
        if ".conv2." in name or ".proj." in name:
            p.zero_()
    for half in (vae.encoder, vae.decoder):
        half.conv_in.weight[-1].zero_()
        half.conv_in.bias[-1] = level


def build_transformer() -> Any:
    """A `WanTransformer3DModel` with one token a latent position."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=3,
        attention_head_dim=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=128,
        ffn_dim=768,
        num_layers=8,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )


def build_text_encoder(words: list[str]) -> tuple[Any, Any]:
    """A word tokenizer over a closed vocabulary and a two-layer `UMT5EncoderModel`."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    config = UMT5Config(
        vocab_size=len(vocabulary), d_model=TEXT_DIM, d_kv=16, num_heads=4, d_ff=128, num_layers=2, dropout_rate=0.0
    )
    return fast, UMT5EncoderModel(config)


def save_pipeline(path: Path, vae: Any, transformer: Any, text_encoder: Any, tokenizer: Any) -> None:
    """Write a `WanPipeline` folder in diffusers layout, weights as fp16 safetensors."""
    from diffusers import UniPCMultistepScheduler, WanPipeline

    scheduler = UniPCMultistepScheduler(
        num_train_timesteps=1000, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    pipeline = WanPipeline(
        tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, scheduler=scheduler, transformer=transformer
    )
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(path, safe_serialization=True)
