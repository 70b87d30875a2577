"""LoRA on a transformer, or on both experts, through peft and diffusers."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from motive.models.experts import parts

FILES = {
    "transformer": "pytorch_lora_weights.safetensors",
    "transformer_2": "pytorch_lora_weights_2.safetensors",
}
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def add_lora(transformer: nn.Module, rank: int, seed: int) -> None:
    """Freeze the transformer and put a trainable float32 adapter beside its attention matrices."""
    from peft import LoraConfig

    torch.manual_seed(seed)
    transformer.requires_grad_(False)
    for model in parts(transformer).values():
        model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS))
    for p in transformer.parameters():
        if p.requires_grad:
            p.data = p.data.float()


def save_lora(transformer: nn.Module, folder: Path) -> None:
    """Write a file a transformer, as `load_lora_weights` of WanPipeline and LTXPipeline reads it."""
    from diffusers import WanPipeline  # type: ignore[attr-defined]
    from peft.utils import get_peft_model_state_dict

    for name, model in parts(transformer).items():
        weights: Any = get_peft_model_state_dict(model)
        WanPipeline.save_lora_weights(folder, transformer_lora_layers=weights, weight_name=FILES[name])


def load_lora(transformer: nn.Module, folder: str) -> None:
    """Put what `save_lora` wrote beside a transformer's matrices."""
    for name, model in parts(transformer).items():
        model.load_lora_adapter(folder, prefix="transformer", weight_name=FILES[name], use_safetensors=True)
