"""Laws of the parameters: what is written is loaded, and a mistake names its key and what is allowed."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from motive.allowed import RENAMED, explain
from motive.params import load_params

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "params.yaml"
PAPER = ROOT / "profiles" / "paper.yaml"
NOTHING = object()


def flat(tree: dict, prefix: str = "") -> dict:
    """key path -> value; a mapping of folders counts as one value."""
    keys: dict = {}
    for key, value in tree.items():
        inner = isinstance(value, dict) and key != "source"
        keys |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return keys


def loaded_with(tmp_path: Path, key: str, value: object):
    """The shipped parameters, one key changed, added or (NOTHING) taken away."""
    yaml = YAML(typ="safe")
    tree = inner = yaml.load(SHIPPED)
    *above, last = key.split(".")
    for name in above:
        inner = inner[name]
    if value is NOTHING:
        del inner[last]
    else:
        inner[last] = value
    path = tmp_path / "params.yaml"
    with path.open("w") as file:
        yaml.dump(tree, file)
    return load_params(path)


@pytest.mark.parametrize("path", [SHIPPED, PAPER], ids=["shipped", "paper"])
def test_every_key_of_the_file_is_loaded_and_explained(path):
    rows = {row.key: row for row in explain(load_params(path))}
    written = flat(YAML(typ="safe").load(path))
    assert list(rows) == list(written)
    for key, value in written.items():
        assert rows[key].value == (tuple(value) if isinstance(value, list) else value)
        assert all(rows[key]._replace(value=True)), key


def test_the_paper_is_the_paper():
    paper = load_params(PAPER)
    assert (paper.clips.num_frames, paper.clips.fps, paper.clips.height, paper.clips.width) == (
        81,
        16,
        480,
        832,
    )
    assert (paper.sketches.sigmas, paper.sketches.dim, paper.masks.floor) == ((0.751,), 512, 0)
    assert (paper.attribution.percentile, paper.curation.fraction) == (90, 0.1)
    assert (paper.finetuning.method, paper.finetuning.learning_rate) == ("full", 1e-5)


def test_every_departure_of_the_shipped_parameters_is_named_beside_the_papers():
    shipped, paper = flat(YAML(typ="safe").load(SHIPPED)), flat(YAML(typ="safe").load(PAPER))
    named = {
        line.split(":")[0].strip()
        for line in PAPER.read_text().splitlines()
        if re.match(r"\s*\w+:.*# shipped:", line)
    }
    departures = {key.split(".")[-1] for key, value in paper.items() if shipped[key] != value}
    assert departures <= named
    assert named - departures <= {"pool", "queries", "heldout"}  # of clips.source, which departs as one


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        (
            "curation.strategy",
            "motiv",
            "'motiv': allowed: motive | random | motion_magnitude | full | drop_worst (did you mean motive?)",
        ),
        ("curation.stratgy", "motive", "is unknown: did you mean curation.strategy?"),
        ("zzz", 1, "is unknown: known: workers, ray, shards, model"),
        ("curation.fraction", NOTHING, "is missing: number > 0 and <= 1"),
        ("masks", NOTHING, "is missing: keys enabled, camera, floor, percentile, confidence"),
        ("masks", [1], "is [1]: allowed: keys enabled, camera, floor, percentile, confidence"),
        ("workers", "3", "is '3': allowed: whole number >= 1"),
        ("workers", 1.5, "is 1.5: allowed: whole number >= 1"),
        ("workers", True, "is True: allowed: whole number >= 1"),
        ("ray", "yes", "is 'yes': allowed: empty | local | auto | HOST:PORT"),
        ("clips.height", 0, "is 0: allowed: whole number >= 1"),
        ("clips.fps", "12", "is '12': allowed: number > 0"),
        ("clips.fps", float("nan"), "is nan: allowed: number > 0"),
        ("clips.fps", float("inf"), "is inf: allowed: number > 0"),
        ("masks.enabled", "yes", "is 'yes': allowed: true | false"),
        ("model.device", "gpu", "is 'gpu': allowed: cpu | cuda | cuda:N"),
        ("curation.fraction", 0, "is 0: allowed: number > 0 and <= 1"),
        ("curation.fraction", 1.1, "is 1.1: allowed"),
        ("attribution.percentile", 100, "is 100: allowed: number > 0 and < 100"),
        ("sketches.sigmas", [0.5, 1.0], "sigmas.1 is 1.0: allowed: list of number > 0 and < 1"),
        ("sketches.sigmas", ["a"], "sigmas.0 is 'a': allowed: list of number > 0 and < 1"),
        ("sketches.sigmas", [], "is []: allowed: list of number"),
        ("sketches.sigmas", 0.5, "is 0.5: allowed: list of number"),
        ("evaluation.clips", "held", "is 'held': allowed: heldout | pool | queries"),
        ("clips.source", {"pool": "a", "heldout": "b"}, "missing queries"),
        ("clips.source.Pool 2", "folder", "'Pool 2': allowed: name of small letters"),
        ("optical_flow.stride", 5, "is 5: must divide clips.height 64"),
        ("sketches.dim", 1000, "is 1000: must be a power of two"),
        ("sketches.dim", 4, "is 4: must be a power of two, at least 8"),
        ("sketches.segments", 4, "is 4 and sketches.storage bit: set sketches.storage to float16"),
        ("optical_flow.tracker", "alltraker", "allowed: dis | raft | alltracker (did you mean alltracker?)"),
        ("optical_flow.device", "gpu", "is 'gpu': allowed: cpu | cuda | cuda:N"),
    ],
)
def test_a_mistake_is_one_line_with_key_value_and_what_is_allowed(tmp_path, key, value, complaint):
    with pytest.raises(ValueError) as error:
        loaded_with(tmp_path, key, value)
    message = str(error.value)
    assert complaint in message
    assert key in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"tracker": "raft"}, "optical_flow.weights is empty: tracker raft needs them"),
        ({"tracker": "alltracker"}, "optical_flow.weights is empty: tracker alltracker needs them"),
        (
            {"tracker": "alltracker", "weights": "a.pth"},
            "optical_flow.repository is empty: tracker alltracker",
        ),
        (
            {"tracker": "alltracker", "weights": "a.pth", "repository": "clone", "check": True},
            "optical_flow.check is true: allowed: false",
        ),
    ],
)
def test_a_tracker_that_lacks_something_is_told_so(tmp_path, changed, complaint):
    section = YAML(typ="safe").load(SHIPPED)["optical_flow"] | changed
    with pytest.raises(ValueError) as error:
        loaded_with(tmp_path, "optical_flow", section)
    assert complaint in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_password_is_refused_and_not_repeated(tmp_path):
    with pytest.raises(ValueError, match=r"record\.uri has a user or a password") as error:
        loaded_with(tmp_path, "record.uri", "http://bob:s3cret@127.0.0.1:5000")
    assert "s3cret" not in str(error.value)
    assert loaded_with(tmp_path, "record.uri", "http://127.0.0.1:5000/@bob").record.uri.endswith("@bob")


def test_all_mistakes_are_told_at_once(tmp_path):
    path = tmp_path / "params.yaml"
    wrong = re.sub(r"\bfps: \S+", "fps: fast", SHIPPED.read_text()).replace("workers: 2", "workers: 0")
    path.write_text(wrong)
    with pytest.raises(ValueError) as error:
        load_params(path)
    assert [line.split(": ")[1].split()[0] for line in str(error.value).splitlines()] == [
        "workers",
        "clips.fps",
    ]


def test_a_whole_number_does_for_a_fraction(tmp_path):
    fps = loaded_with(tmp_path, "clips.fps", 12).clips.fps
    assert fps == 12
    assert isinstance(fps, float)


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED.read_text().replace("1.0e-5", "1e-5"))
    assert load_params(path) == load_params(SHIPPED)


@pytest.mark.parametrize("text", ["", "a: [1", "workers: 1\nworkers: 2\n", "\xff\x00"], ids=repr)
def test_no_yaml_is_an_error_that_names_the_file(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_params(path)


def test_a_missing_file_says_where_to_go(tmp_path):
    with pytest.raises(ValueError, match="run in the project's folder"):
        load_params(tmp_path / "params.yaml")


def test_parameters_can_not_be_changed():
    params = load_params(SHIPPED)
    with pytest.raises(ValidationError, match="frozen"):
        params.clips.fps = 24.0  # type: ignore[misc]


def test_a_section_that_was_renamed_is_named_by_its_new_name(tmp_path):
    ((old, new),) = RENAMED.items()
    text = SHIPPED.read_text().replace(f"\n{new}:", f"\n{old}:")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"{old} is called {new} now"):
        load_params(tmp_path / "params.yaml")
