"""The recipe of models/tiny-wan, in the order of `toyworld pretrain`; see models/tiny-wan/README.md."""
