"""The recipe of models/tiny-wan: frames, vae, latents, transformer, package, card; see docs/tiny-wan.md."""
