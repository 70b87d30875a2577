"""The recipe of models/tiny-wan, in the order of `motive pretrain`; see models/tiny-wan/README.md."""
