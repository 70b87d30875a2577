"""One word, one meaning: names and words that were retired are not used again, in code, help or pages."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "src/",
    "flows/",
    "testing/",
    "tests/",
    "benchmarks/",
    "examples/",
    "docs/",
    "deploy/",
    "profiles/",
)
FILES = ("dvc.yaml", "params.yaml", "prefect.yaml", "Makefile", "pyproject.toml", "models/tiny-wan/README.md")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
TEXT = {".py", ".ipynb", ".md", ".yaml", ".toml", ".svg", ".html", ".env", ".sql", ""}
HERE = "tests/test_words.py"

# Anywhere: identifiers (split at underscores and capitals), strings, comments; what to say instead.
RETIRED = {
    "card": "GPU; of a model: README",
    "cards": "GPUs",
    "film": "video",
    "films": "videos",
    "picture": "image or figure",
    "pictures": "images or figures",
    "river": "pipeline",
    "teacher": "helpful or harmful clip",
    "teachers": "helpful or harmful clips",
    "anew": "again, newly",
    "deviation": "std",
    "deviations": "std",
    "track": "optical flow, pixel tracker; the stage is record",
    "tracks": "optical flow, pixel tracker; the stage is record",
    "tracked": "optical flow, pixel tracker; the stage is record",
}
PHRASES = {
    r"(?i)number[ _-]?types?\b": "dtype",
    r"(?<![A-Za-z])PART(?![A-Za-z])": "SPLIT",
    r"\bitem\.part\b": "item.split",
}
# What code defines: variables, arguments, fields, functions, classes.
RETIRED_NAMES = {
    "part": "split, or a precise noun",
    "found": "a noun",
    "known": "a noun",
    "how": "a noun",
    "fine": "a noun",
    "asked": "a noun",
    "told": "a noun",
    "said": "a noun",
}
# Names of other people that have such a word, the paper's own words, and a name that is said to be old.
QUOTATIONS = re.compile(
    r"DO_NOT_TRACK|\"bad teachers\"|the stage `track`:|\{\"track\": \"record\"\}|OLD_STAGE = \"track\""
)


def checked_files() -> list[Path]:
    """What git has or would add, of the folders and files above."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("no git checkout")
    names = [name for name in listing.stdout.split("\0") if name.startswith(FOLDERS) or name in FILES + PAGES]
    paths = [ROOT / name for name in names if name != HERE and Path(name).suffix in TEXT]
    return [path for path in paths if path.is_file()]


def read_text(path: Path) -> str:
    """Of a notebook its cells, without outputs."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def words(text: str) -> list[str]:
    """In lower case; identifiers are split at underscores, digits and capitals."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)]


def retired_words(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, word, what to say instead)."""
    for number, line in enumerate(QUOTATIONS.sub("", text).splitlines(), 1):
        for word in words(line):
            if word in RETIRED:
                yield number, word, RETIRED[word]
        for pattern, instead in PHRASES.items():
            for hit in re.finditer(pattern, line):
                yield number, hit[0], instead


def defined_names(code: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def retired_names(code: str) -> Iterator[tuple[int, str, str]]:
    """`found` and its like are retired as whole names, `part` as a word of any name but a test's."""
    for line, name in defined_names(code):
        for word in {name, *words(name)} & set(RETIRED_NAMES):
            if word == name or (word == "part" and not name.startswith("test_")):
                yield line, name, RETIRED_NAMES[word]


def python_of(path: Path, text: str) -> str | None:
    if path.suffix == ".py":
        return text
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return None


def complaints(path: Path) -> list[str]:
    name = str(path.relative_to(ROOT))
    text = read_text(path)
    hits = list(retired_words(text))
    code = python_of(path, text)
    if code is not None:
        hits += retired_names(code)
    # A file's name is a name, too.
    hits += [(0, word, RETIRED[word]) for word in words(name) if word in RETIRED]
    return [f"{name}:{line}: {word!r} is retired: {instead}" for line, word, instead in sorted(hits)]


def test_no_retired_word_is_used():
    hits = [complaint for path in checked_files() for complaint in complaints(path)]
    assert not hits, "\n" + "\n".join(hits)


@pytest.mark.parametrize(
    "text",
    ["one card a process", "model_card", "CardMissing", "track", "a film's end", "number types", "data/PART"],
)
def test_a_retired_word_would_be_seen(text):
    assert list(retired_words(text))


@pytest.mark.parametrize(
    "text",
    ["discard", "tracker", "DO_NOT_TRACK=true", "tracking_uri", "filmstrip", "cardinal", "a part of it"],
)
def test_a_word_that_only_looks_like_one_is_none(text):
    assert not list(retired_words(text))


@pytest.mark.parametrize(
    "code", ["found = 1", "def f(how): ...", "part_folder = 2", "def of_part(): ...", "for known in x: pass"]
)
def test_a_retired_name_would_be_seen(code):
    assert list(retired_names(code))


@pytest.mark.parametrize("code", ["x.parts", "num_found = 1", "partial = 2", "print('how')"])
def test_a_name_that_only_looks_like_one_is_none(code):
    assert not list(retired_names(code))
