"""The text file of prompts that videos are generated for."""

from pathlib import Path


def read_prompts(path: Path) -> list[str]:
    """The prompts of a text file, one a line.

    Raises:
        ValueError: no file, or an empty or repeated line, with its number.
    """
    if not path.is_file():
        raise ValueError(f"evaluation.prompts: {path} is missing; write a text file with one prompt a line")
    first: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        prompt = line.strip()
        if not prompt:
            raise ValueError(f"{path}: line {number} is empty: write a prompt or take the line out")
        if prompt in first:
            raise ValueError(f"{path}: line {number} repeats line {first[prompt]}, {prompt!r}: take one out")
        first[prompt] = number
    if not first:
        raise ValueError(f"{path} is empty: write one prompt a line")
    return list(first)
