"""The recipe of models/tiny-wan: `motive pretrain frames`, `vae`, `latents`, `transformer`, `card`, in this order."""
