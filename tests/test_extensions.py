"""Backbones and pixel trackers of other packages: used by name, and their version decides what is made."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from motive import extensions
from motive.models import backbones, wan
from motive.models import folder as model_folder
from motive.models.families import register_backbone
from motive.params import Params, load_params
from motive.stages import latents, optical_flow, run_stage, sketches
from motive.stages.optical_flow import make_recipe
from motive.store.shards import locate, read_clip_tensors
from motive.trackers.interface import load_tracker, register_tracker
from testing.tiny import small_params, write_masks, write_split
from testing.tiny_backbones import write_backbone
from toyworld.tiny_wan import TEXT_DIM

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/extending.md"
PIPELINE = "WanVideoToVideoPipeline"  # diffusers has it and we do not
RIGHT = """
import numpy as np

def make(weights, device):
    def pair(before, after):
        flow = np.zeros((2, *before.shape[:2]), np.float32)
        flow[0] = 3
        return flow, np.ones(before.shape[:2], np.float32)
    return pair
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty project in a process that knows only ours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extensions, "_registered", {})
    extensions._entries.cache_clear()
    yield
    for cached in (extensions._entries, latents.load, sketches.load):
        cached.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, package: str, version: str, entries: str, code: str) -> None:
    """A package beside the project, as pip would leave it."""
    site = Path(f"installed/{package}-{version}").absolute()
    about = site / f"{package}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(entries)
    (site / f"{package}.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    importlib.invalidate_caches()
    extensions._entries.cache_clear()


def params_with(tracker: str, **changed: Any) -> Params:
    return small_params(optical_flow={"tracker": tracker} | changed)


def digest_of(params: Params) -> str:
    return make_recipe(params.clips, params.optical_flow).digest


def made_by(stage: str) -> dict[str, Any]:
    where = locate(Path("data/pool") / stage)
    return dict(read_clip_tensors(where, list(where)))


def test_a_tracker_of_an_installed_package_makes_the_optical_flow(monkeypatch):
    install(monkeypatch, "strange", "1.2", "[motive.trackers]\nright = strange:make\n", RIGHT)
    ids = write_split("pool", ["rolls", "spins"])
    run_stage(optical_flow, params_with("right"), "pool")
    flows = made_by("optical_flow")
    assert set(flows) == set(ids)
    for clip in flows.values():
        assert not clip["flow"][0].any()
        assert (clip["flow"][1:, 0] == 3).all()
        assert not clip["flow"][1:, 1].any()


def test_a_tracker_is_not_imported_before_it_is_used(monkeypatch):
    install(monkeypatch, "broken", "1", "[motive.trackers]\nfalls = broken:make\n", "raise RuntimeError")
    digest_of(params_with("falls"))
    with pytest.raises(RuntimeError):
        load_tracker(params_with("falls").optical_flow.model_dump())


def test_an_unknown_tracker_is_refused_with_the_names_that_there_are(monkeypatch):
    install(monkeypatch, "strange", "1.2", "[motive.trackers]\nright = strange:make\n", RIGHT)
    with pytest.raises(ValueError, match=r"is 'left': allowed: dis \| raft \| alltracker \| right"):
        load_params(ROOT / "params.yaml", {"optical_flow.tracker": "left"})
    unknown = params_with("right").optical_flow.model_dump() | {"tracker": "left"}
    with pytest.raises(ValueError, match="'left'; it is one of dis, raft, alltracker, right"):
        load_tracker(unknown)


def test_version_and_weights_of_a_tracker_decide_and_its_device_does_not(tmp_path):
    def make(weights: str, device: str) -> Any:
        raise AssertionError("nobody asked for optical flow")

    (tmp_path / "a.pth").write_bytes(b"weights")
    register_tracker("mine", make, version="1")
    first = digest_of(params_with("mine"))
    assert digest_of(params_with("mine", device="cuda", preset="fast")) == first
    assert digest_of(params_with("mine", weights=str(tmp_path / "a.pth"))) != first
    register_tracker("mine", make, version="2")
    assert digest_of(params_with("mine")) != first


def test_one_that_follows_a_clip_by_itself_is_asked_for_all_of_it():
    class Whole:
        def __call__(self, before: np.ndarray, after: np.ndarray) -> Any:
            raise AssertionError("asked for a pair")

        def follow(self, frames: Any) -> Any:
            return (("whole", frame.shape) for frame in frames)

    register_tracker("whole", lambda weights, device: Whole(), version="1")
    settings = params_with("whole").optical_flow.model_dump()
    tracker = load_tracker(settings | {"reference": "first"})
    assert list(tracker(np.zeros((3, 32, 32, 3), np.uint8))) == [("whole", (32, 32, 3))] * 3  # type: ignore[comparison-overlap]


def test_nobody_takes_the_name_of_one_of_ours_or_of_each_other(monkeypatch):
    with pytest.raises(ValueError, match="dis is the name of one of ours"):
        register_tracker("dis", lambda weights, device: None, version="1")  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="LTXPipeline is the name of one of ours"):
        register_backbone("LTXPipeline", wan, version="1")
    for package in ("one", "other"):
        install(monkeypatch, package, "1", f"[motive.trackers]\nright = {package}:make\n", RIGHT)
    with pytest.raises(ValueError, match=r"right is in one 1 and other 1 .*uninstall one of them"):
        digest_of(params_with("right"))


# ---- backbones


@pytest.fixture
def foreign_model() -> Path:
    """A model of a pipeline that we do not know, of classes that we do."""
    write_backbone("wan2.1", Path("model"))
    index = Path("model/model_index.json")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": PIPELINE}))
    return Path("model")


def half_as_fast() -> Any:
    """Wan, but its velocity is halved."""
    family = SimpleNamespace(**{name: getattr(wan, name) for name in FUNCTIONS})
    family.velocity = lambda *args: wan.velocity(*args) / 2
    return family


FUNCTIONS = (
    "IMAGE_PIPELINE",
    "strides",
    "fitting",
    "statistics",
    "decode",
    "encode_text",
    "velocity",
    "first_frame_kind",
    "sampling",
)


def test_a_backbone_of_another_package_is_sketched(foreign_model):
    shape = {"num_frames": 9, "height": 64, "width": 64, "resample": "stretch"}
    params = small_params(clips=shape, sketches={"dim": 64, "sigmas": (0.3,)})
    ids = write_split("pool", ["rolls", "spins"])
    with pytest.raises(ValueError, match=f"{PIPELINE}; supported: WanPipeline, WanImageToVideoPipeline"):
        run_stage(latents, params, "pool")
    register_backbone(PIPELINE, half_as_fast(), version="1")
    run_stage(latents, params, "pool")
    write_masks("pool", {one: torch.ones(made_by("latents")[one]["latent"].shape[1:]) for one in ids})
    run_stage(sketches, params, "pool")
    assert all(bool(clip["ok"]) for clip in made_by("sketches").values())


def test_a_loaded_part_knows_that_its_family_is_another_packages(foreign_model):
    register_backbone(PIPELINE, half_as_fast(), version="1")
    transformer = backbones.load_transformer(str(foreign_model), "float32", "cpu")
    torch.manual_seed(0)
    z, sigma, text = torch.randn(1, 4, 3, 8, 8), torch.tensor([0.5]), torch.randn(1, 8, TEXT_DIM)
    with torch.no_grad():
        halved = backbones.velocity(transformer, z, sigma, text)
        assert torch.equal(halved, wan.velocity(transformer, z, sigma, text, 25.0) / 2)
    assert model_folder.read_strides(str(foreign_model)) == (4, 8)


def test_another_version_of_a_backbones_package_is_another_model(foreign_model, monkeypatch):
    entries = f"[motive.backbones]\n{PIPELINE} = motive.models.wan\n"
    install(monkeypatch, "strange", "1", entries, "")
    first = model_folder.fingerprint("model", "transformer")
    assert model_folder.latent_shape("model", 9, 64, 64) == (4, 3, 8, 8)
    (Path("installed/strange-1/strange-1.dist-info") / "METADATA").write_text("Name: strange\nVersion: 2\n")
    extensions._entries.cache_clear()
    assert model_folder.fingerprint("model", "transformer") != first


# ---- the page


def test_the_page_on_extending_runs():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["flow"]["flow"].shape == (9, 2, 16, 16)
