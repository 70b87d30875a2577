"""The recipe of models/tiny-wan: frames, vae, latents, transformer, package, card; see models/tiny-wan/README.md."""
