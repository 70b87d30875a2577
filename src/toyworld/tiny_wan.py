"""Builds the components of models/tiny-wan: the real diffusers classes of Wan, small, with random weights."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

TEXT_DIM = 64
PATCH = 4
LATENT_CHANNELS = 3
WIDTH = 8  # of the encoder, which is linear ...
DECODER_WIDTH = 96  # ... and of the decoder, which is trained


def build_vae(latents_mean: list[float] | None = None, latents_std: list[float] | None = None) -> Any:
    """An `AutoencoderKLWan` of the Wan 2.2 kind with strides 1x4x4: a 64x64 frame has little to spare.

    Its encoder has no layer that `set_encoder_to_pca` would leave idle and the class can do without.
    """
    from diffusers import AutoencoderKLWan  # type: ignore[attr-defined]

    return AutoencoderKLWan(
        base_dim=WIDTH,
        decoder_base_dim=DECODER_WIDTH,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1],
        num_res_blocks=0,
        temperal_downsample=[],  # (the class spells it so)
        is_residual=True,
        patch_size=PATCH,
        in_channels=3 * PATCH**2,
        out_channels=3 * PATCH**2,
        scale_factor_temporal=1,
        scale_factor_spatial=PATCH,
        latents_mean=latents_mean or [0.0] * LATENT_CHANNELS,
        latents_std=latents_std or [1.0] * LATENT_CHANNELS,
    )


def patches(frames: UInt8[np.ndarray, "N F H W 3"]) -> Float[Tensor, "R 48"]:
    """The VAE's patches of frames [N,F,H,W,3], a row each, in [-1,1] and in the order of its channels."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

    video = torch.from_numpy(frames.copy()).permute(0, 4, 1, 2, 3) / 127.5 - 1
    return patchify(video, PATCH).permute(0, 2, 3, 4, 1).flatten(0, 3)


class Pca(NamedTuple):
    """A linear code of patches: mean [48], components [48,12] and the roots of their stds [12]."""

    mean: Tensor
    basis: Tensor
    roots: Tensor

    def encode(self, frames: UInt8[np.ndarray, "N F H W 3"]) -> Float[Tensor, "N C F h w"]:
        """What a VAE that is set to this code makes of frames.

        A component's latent has the root of its own std: fine detail stays fainter than coarse, as in an
        image, and drowns earlier in the noise.
        """
        N, F, H, W = frames.shape[:4]
        z = (patches(frames) - self.mean) @ self.basis / self.roots  # [N*F*h*w,C]
        return z.view(N, F, H // PATCH, W // PATCH, LATENT_CHANNELS).permute(0, 4, 1, 2, 3)


def fit_pca(rows: Float[Tensor, "N 48"]) -> Pca:
    """The code of these patches, the largest component first."""
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((rows - mean).T))
    return Pca(mean, vectors[:, -LATENT_CHANNELS:].flip(1), values[-LATENT_CHANNELS:].flip(0) ** 0.25)


@torch.no_grad()
def set_encoder_to_pca(vae: Any, pca: Pca, small: float = 0.5, loud: float = 128.0) -> None:
    """Set a VAE's weights so that its encoder is this linear code: nothing in it is left to train.

    Residual branches are silent. The RMS norm before the output divides by the length of the feature vector:
    beside a loud constant channel small features pass it unchanged. SiLU(x) - SiLU(-x) = x, so each component
    travels as a pair of opposite signs.
    """
    for name, p in vae.encoder.named_parameters():
        if ".conv2." in name or ".proj." in name:
            p.zero_()

    # Into pairs of opposite signs, beside the loud channel ...
    k = LATENT_CHANNELS
    down = small * (pca.basis.T / pca.roots[:, None])
    conv = vae.encoder.conv_in
    conv.weight.zero_()
    conv.weight[:k, :, -1, 1, 1] = down
    conv.weight[k : 2 * k, :, -1, 1, 1] = -down
    conv.bias.zero_()
    conv.bias[:k] = -down @ pca.mean
    conv.bias[k : 2 * k] = down @ pca.mean
    conv.bias[-1] = loud

    # ... and out of them again.
    gain = small * WIDTH**0.5 / loud
    conv = vae.encoder.conv_out
    conv.weight.zero_()
    conv.weight[:k, :k, -1, 1, 1] = torch.eye(k) / gain
    conv.weight[:k, k : 2 * k, -1, 1, 1] = -torch.eye(k) / gain
    conv.bias.zero_()
    conv.bias[k:] = -8.0  # log-variance: almost no noise
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight.copy_(torch.eye(len(conv.weight)).view(conv.weight.shape))
        conv.bias.zero_()


def build_transformer() -> Any:
    """A `WanTransformer3DModel` whose tokens are 2x2 latent positions of one frame."""
    from diffusers import WanTransformer3DModel  # type: ignore[attr-defined]

    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=128,
        ffn_dim=512,
        num_layers=6,
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
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
    )
    config = UMT5Config(
        vocab_size=len(vocabulary),
        d_model=TEXT_DIM,
        d_kv=16,
        num_heads=4,
        d_ff=128,
        num_layers=2,
        dropout_rate=0.0,
    )
    return fast, UMT5EncoderModel(config)


def save_pipeline(
    path: Path,
    vae: Any,
    transformer: Any,
    text_encoder: Any,
    tokenizer: Any,
    takes_first_frame: bool = False,
) -> None:
    """Write a `WanPipeline` folder in diffusers layout, weights as fp16 safetensors."""
    from diffusers import UniPCMultistepScheduler, WanPipeline  # type: ignore[attr-defined]

    scheduler: Any = UniPCMultistepScheduler(
        num_train_timesteps=1000, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=20.0
    )
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        scheduler=scheduler,
        transformer=transformer,
        expand_timesteps=takes_first_frame,
    )
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(path, safe_serialization=True)
