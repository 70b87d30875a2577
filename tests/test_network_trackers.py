"""RAFT and AllTracker: their laws beside the environment, and here what needs neither: weights and sizes."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from motive.params import Params, load_params
from motive.stages.optical_flow import make_recipe
from motive.trackers import alltracker
from motive.trackers.interface import load_tracker
from motive.trackers.networks import find_weights, fit, read_weights, restore, restore_flow
from motive.trackers.raft import Raft
from testing.beside import run_beside

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def test_rafts_laws():
    run_beside("raft_checks.py")


@pytest.mark.skipif("ALLTRACKER" not in os.environ, reason="ALLTRACKER names no clone of aharley/alltracker")
def test_alltrackers_laws():
    run_beside("alltracker_checks.py")


# ---- sizes


@pytest.mark.parametrize("size", [(64, 64), (17, 40), (130, 141), (128, 256), (480, 832)])
def test_frames_fit_and_vectors_come_back_in_the_frames_pixels(size):
    frames = np.full((2, *size, 3), 200, np.uint8)
    pixels = fit(frames)
    assert pixels.shape[:2] == (2, 3)
    assert all(side >= 128 and side % 8 == 0 for side in pixels.shape[2:])
    torch.testing.assert_close(pixels, torch.full_like(pixels, 200))
    scale = max(1, 128 / min(size))
    flow = restore_flow(torch.ones(1, 2, *pixels.shape[2:]), size)
    assert flow.shape == (1, 2, *size)
    torch.testing.assert_close(flow, torch.full_like(flow, 1 / scale), rtol=0.02, atol=0)


@pytest.mark.parametrize(("size", "worst"), [((64, 64), 2), ((60, 90), 2), ((130, 141), 0), ((256, 320), 0)])
def test_an_image_comes_back_as_it_was(size, worst):
    y, x = np.mgrid[: size[0], : size[1]]
    frames = np.stack([2 * x % 256, 2 * y % 256, x + y], -1)[None].clip(0, 255).astype(np.uint8)
    frames[..., :2] = np.minimum(frames[..., :2], 250)
    smooth = frames[:, 4:-4, 4:-4] if worst else frames
    back = restore(fit(frames), size).permute(0, 2, 3, 1).numpy()
    back = back[:, 4:-4, 4:-4] if worst else back
    assert np.abs(back - smooth).max() <= worst


# ---- weights


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_weights(path)
    return str(error.value)


class Surprise:
    """Writes a file where it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("surprise"),)


def test_nothing_in_a_file_of_weights_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.ones(2), "surprise": Surprise()}, "evil.pth")
    with pytest.raises(
        ValueError, match=r"evil.pth is no state_dict of plain tensors, and nothing else is read"
    ):
        read_weights(Path("evil.pth"))
    torch.save(torch.nn.Linear(2, 2), "module.pth")
    with pytest.raises(ValueError, match=r"module.pth is no state_dict"):
        read_weights(Path("module.pth"))
    assert not Path("surprise").exists()


def test_weights_come_whole_or_inside_a_checkpoint(tmp_path):
    state = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save({"model": state, "step": 7}, tmp_path / "c.pth")
    for name in ("a.safetensors", "b.pth", "c.pth"):
        torch.testing.assert_close(read_weights(tmp_path / name), state)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_holds_no_weights_is_named(tmp_path, name):
    torch.save({"a": torch.ones(300)}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for content in (b"", b"<html>404</html>", whole[: len(whole) // 2], bytes(300)):
        assert f"{name} is no state_dict" in refused(tmp_path / name, content)
    torch.save({"step": 7}, tmp_path / "step.pth")
    with pytest.raises(ValueError, match=r"step.pth is no state_dict"):
        read_weights(tmp_path / "step.pth")


@pytest.mark.parametrize(
    "weights", ["", "raft.pth", "models/raft.pth", "./models/big/raft.pth", "/a/b/c.pth"]
)
def test_weights_that_are_nowhere_are_named(weights):
    with pytest.raises(ValueError, match=r"optical_flow.weights: .* is no file, and not owner/name/file"):
        find_weights(weights)


def test_weights_that_are_not_on_the_hub_are_named():
    with pytest.raises(
        ValueError, match=r"nobody/nothing/raft.pth is no file, and none of that name was found"
    ):
        find_weights("nobody/nothing/raft.pth")


# ---- code


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_raft_without_torchvision_says_what_to_install(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "raft.safetensors")
    with pytest.raises(ValueError, match=r"'raft', which needs torchvision.*install motive\[trackers\]"):
        Raft(f"{tmp_path}/raft.safetensors", "cpu")


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_alltracker_says_what_its_code_lacks(tmp_path):
    with pytest.raises(ValueError, match=r"optical_flow.repository: .*nets/alltracker.py is missing: clone"):
        alltracker._modules(str(tmp_path))
    for name in alltracker.CODE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("import torchvision\n")
    with pytest.raises(
        ValueError, match=r"does not load: No module named 'torchvision'; it needs motive\[tr"
    ):
        alltracker._modules(str(tmp_path))


def test_an_unknown_tracker_is_refused():
    with pytest.raises(ValueError, match="tracker is 'eyes'; it is one of dis, raft, alltracker"):
        load_tracker({"tracker": "eyes", "reference": "adjacent", "check": False})


# ---- the recipe


def with_raft(weights: Path, **changed: object) -> Params:
    values = load_params(ROOT / "params.yaml").model_dump()
    values["optical_flow"] |= {"tracker": "raft", "weights": str(weights)} | changed
    return Params.model_validate(values)


def digest_of(params: Params) -> str:
    return make_recipe(params.clips, params.optical_flow).digest


def test_the_weights_decide_not_where_they_are_nor_the_device(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"weights")
    (tmp_path / "b.pth").write_bytes(b"weights")
    (tmp_path / "c.pth").write_bytes(b"others")
    digest = digest_of(with_raft(tmp_path / "a.pth"))
    assert digest_of(with_raft(tmp_path / "b.pth", device="cuda", preset="fast")) == digest
    assert digest_of(with_raft(tmp_path / "c.pth")) != digest
    assert digest_of(with_raft(tmp_path / "a.pth", reference="first")) != digest
