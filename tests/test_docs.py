"""What the pages name is there: links, parameters, commands, code; and no file knows this machine."""

import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from motive import cli
from motive.params import load_params
from motive.stages.curation import STRATEGIES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
SUFFIXES = {"parquet", "json", "png", "safetensors", "py", "md", "yaml", "svg"}
PLACES = [
    r"(?<![\w.~-])/(?:home|root|Users|work|mnt|tmp)/\w",
    r"file:///\w",
    r"pypi\.org|pythonhosted\.org|anaconda\.org|\bwhl/\w|npmjs\.|ghcr\.io|huggingface\.co|docker\.io",
    r"https?://[\w.-]*(?:proxy|mirror|registry|artifactory|nexus)",
]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fenced(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return re.sub(r"^```\w*\n.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"", prose(page)):
        link, _, anchor = "".join(target).partition("#")
        if "://" in link:
            continue
        there = (page.parent / link).resolve() if link else page
        assert there.exists(), f"{named(page)} links to {link}, which is missing"
        assert there.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(there), f"{link} has no heading #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_block_is_left_to_fill(page):
    assert all(text.strip() for _, text in fenced(page)), f"{named(page)} has an empty block"


# ---- parameters


def known_keys() -> dict[str, dict]:
    values = load_params(ROOT / "params.yaml").model_dump()
    return {name: value for name, value in values.items() if isinstance(value, dict)}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_parameters_on_the_pages_exist(page):
    sections = known_keys()
    for span in spans(page):
        address = re.match(rf"({'|'.join(sections)})\.(\w+)(?=$|[:=\s])", span)
        if address and address[2] not in SUFFIXES:
            assert address[2] in sections[address[1]], f"{named(page)}: {span} is no key of params.yaml"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_yaml_on_the_pages_fits_params_yaml(page):
    sections = known_keys()
    for text in (text for language, text in fenced(page) if language == "yaml"):
        for section, keys in YAML(typ="safe").load(text).items():
            assert set(keys) <= set(sections[section]), f"{named(page)}: {section} has other keys"


def test_the_strategies_on_the_front_page_are_all_there_are():
    [line] = re.findall(r"^  strategy: .*# (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert line.split(" | ") == list(STRATEGIES)


# ---- commands


def commands(page: Path) -> Iterator[list[str]]:
    """Words of the lines of shell blocks, of indented blocks and of code in the text."""
    lines = [line for language, text in fenced(page) if language == "sh" for line in text.splitlines()]
    lines += re.findall(r"^    (\S.*)$", prose(page), re.MULTILINE)
    for line in [*lines, *spans(page)]:
        yield re.split(r"\s+#", line)[0].split()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_on_the_pages_exist(page):
    targets = set(re.findall(r"^([.\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    ours = set(getattr(get_command(cli.app), "commands", {}))
    for words in commands(page):
        match words:
            case ["make", target, *_]:
                assert target in targets, f"{named(page)}: make {target}"
            case ["motive", command, *_] if command != "STAGE" and not command.startswith("--"):
                assert command in ours, f"{named(page)}: motive {command}"
            case ["python", script, *options] if script.endswith(".py"):
                text = (ROOT / script).read_text()
                for option in options:
                    name = option.removeprefix("--").replace("-", "_")
                    assert option[:2] != "--" or option in text or f"{name}: Annotated" in text, option
            case ["python", "-m", module, *_] if module.split(".")[0] in {"toyworld", "benchmarks", "flows"}:
                assert find_spec(module), f"{named(page)}: python -m {module}"
            case ["cp", source, "params.yaml"]:
                assert (ROOT / source).is_file()


# ---- names in the code


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_paths_on_the_pages_exist(page):
    for span in spans(page):
        if re.fullmatch(r"(src|docs|tests|benchmarks|flows|profiles)/[\w./-]+", span):
            assert (ROOT / span).exists(), f"{named(page)} names {span}, which is missing"


def test_the_names_in_the_table_of_symbols_are_in_their_files():
    page = ROOT / "docs/method.md"
    rows = re.findall(r"^\|.*\| (`.+`) \| \[[\w.]+\]\((\S+\.py)\) \|$", page.read_text(), re.MULTILINE)
    assert len(rows) > 15
    for names, file in rows:
        code = (page.parent / file).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b{name}\b", code), f"docs/method.md: {file} has no {name}"


@pytest.mark.parametrize("name", ["pool", "queries", "heldout"])
def test_the_pages_know_the_splits_that_ship(name):
    assert name in load_params(ROOT / "params.yaml").clips.source
    assert f"`{name}`" in (ROOT / "docs/data.md").read_text()


def test_decisions_are_numbered_without_gaps():
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for number, page in enumerate(pages, 1):
        text = page.read_text()
        assert text.startswith(f"# {number}. ")
        assert all(f"**{heading}.**" in text for heading in ("Context", "Choice", "Cost"))


# ---- no file knows this machine


def text_files() -> list[Path]:
    """What git has or would add; all that is text."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no git checkout")
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in files if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def test_no_file_names_places_of_a_machine_or_hosts_of_packages():
    hits = []
    for path in text_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        hits += [f"{named(path)}: {hit[0]}" for place in PLACES for hit in re.finditer(place, text)]
    assert not hits


@pytest.mark.parametrize(
    "text", ["see /home/" + "me", "/tmp/" + "x.json", "https://pypi." + "org/simple", "file://" + "/x"]
)
def test_such_places_would_be_found(text):
    assert any(re.search(place, text) for place in PLACES)


@pytest.mark.parametrize("text", [".motive/work/x", "data/tmp/x", "~/my-videos", "http://127.0.0.1:5000"])
def test_places_of_the_project_are_none(text):
    assert not any(re.search(place, text) for place in PLACES)
