"""Which of a transformer's parameters are differentiated."""

import re
from typing import Any

from motive.models.lora import add_lora

LORA_RANK = 16
NAMES = {
    "all": "",
    "attention": r"(^|\.)attn\w*\.",
    "temporal": r"(^|[._])(temporal|temp|motion_modules)([._]|$)",
}


def choose_parameters(transformer: Any, which: str, seed: int) -> None:
    """Let only these require a gradient: all, attention, temporal, lora, or those that a regular expression
    finds by name.

    lora: of a fresh adapter beside the attention matrices. Its second factor is zero and its first random, so
    the gradient of the second is a random projection of the matrices' own.

    Raises:
        ValueError: there are none, or the expression can't be read.
    """
    if which == "lora":
        add_lora(transformer, LORA_RANK, seed)
        return
    try:
        wanted = re.compile(NAMES.get(which, which))
    except re.error as error:
        raise ValueError(f"sketches.parameters: {which!r} is no regular expression: {error}") from None
    parameters = dict(transformer.named_parameters())
    if not any(map(wanted.search, parameters)):
        some = ", ".join(list(parameters)[:: max(1, len(parameters) // 4)][:4])
        raise ValueError(
            f"sketches.parameters: {which!r} finds none of the {len(parameters)} parameters: {some} ..."
        )
    for name, parameter in parameters.items():
        parameter.requires_grad_(bool(wanted.search(name)))
