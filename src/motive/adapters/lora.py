"""LoRA on a Wan transformer, through peft and diffusers."""

from pathlib import Path
from typing import Any

import torch

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def add_lora(transformer: Any, rank: int, seed: int) -> None:
    """Freeze the transformer and put a trainable float32 adapter beside its attention matrices."""
    from peft import LoraConfig

    torch.manual_seed(seed)
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS))
    for p in transformer.parameters():
        if p.requires_grad:
            p.data = p.data.float()


def save_lora(transformer: Any, folder: Path) -> None:
    """Write `pytorch_lora_weights.safetensors`, as `WanPipeline.load_lora_weights` reads it."""
    from diffusers import WanPipeline  # type: ignore[attr-defined]
    from peft.utils import get_peft_model_state_dict

    weights: Any = get_peft_model_state_dict(transformer)
    WanPipeline.save_lora_weights(folder, transformer_lora_layers=weights)
