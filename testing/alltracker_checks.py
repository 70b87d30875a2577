"""Laws of AllTracker in its own code with random weights; run by test_network_trackers.py.

The environment's ALLTRACKER names a clone of its code.
"""

from testing import torchvision_ops  # noqa: F401  (before torchvision, which needs what it declares)

# isort: split
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from motive.trackers import alltracker
from motive.trackers.alltracker import AllTracker
from motive.trackers.interface import FlowStep, load_tracker

CLONE = os.environ["ALLTRACKER"]
KINDS = {"tiny": {"use_basicencoder": True, "no_split": True}, "full": {"init_weights": False}}

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # its code, not ours


def net(kind: str, window: int) -> Any:
    torch.manual_seed(0)
    return alltracker._modules(CLONE)[0].Net(window, **KINDS[kind]).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints as its authors save them, with random weights; windows of 4 frames, not 16, for speed."""
    folder = tmp_path_factory.mktemp("weights")
    for kind in KINDS:
        torch.save({"model": net(kind, 4).state_dict()}, folder / f"{kind}.pth")
    return {kind: f"{folder}/{kind}.pth" for kind in KINDS}


def noise(num_frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), np.uint8)


def followed(weights: str, frames: np.ndarray, reference: str) -> list[FlowStep]:
    settings = {"tracker": "alltracker", "weights": weights, "repository": CLONE, "device": "cpu"}
    return list(load_tracker(settings | {"reference": reference, "check": False})(iter(frames)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_and_the_window_are_read_off_the_weights(weights, kind):
    network = AllTracker(CLONE, weights[kind], "cpu").network
    assert network.no_split == (kind == "tiny")
    assert network.seqlen == 4


@pytest.mark.parametrize("num_frames", [2, 3, 9])
@pytest.mark.parametrize("reference", ["adjacent", "first"])
def test_any_length_and_size_keeps_its_shape_and_frame_0_stays(weights, num_frames, reference):
    steps = followed(weights["tiny"], noise(num_frames, 40, 65), reference)
    assert [(flow.shape, sure.shape) for flow, sure in steps] == [((2, 40, 65), (40, 65))] * num_frames
    assert {array.dtype.name for one in steps for array in one} == {"float32"}
    assert not steps[0].flow.any()
    assert all(np.isfinite(flow).all() and flow.any() for flow, _ in steps[1:])
    assert all(sure.min() >= 0 and sure.max() < 1 for _, sure in steps[1:])


def test_from_frame_0_the_vectors_and_what_it_sees_are_the_networks_own(weights):
    frames = noise(5, 128, 192)
    whole = net("full", 4)
    whole.get_fmaps = AllTracker(CLONE, weights["full"], "cpu").network.get_fmaps  # needs no CUDA
    with torch.inference_mode():
        theirs = whole.forward_sliding(torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float(), iters=4)
    steps = followed(weights["full"], frames, "first")[1:]
    np.testing.assert_allclose([step.flow for step in steps], theirs[0][0, 1:].numpy(), atol=1e-5)
    seen = theirs[1][0, 1:].prod(1).numpy()  # visible, and sure of it
    np.testing.assert_allclose([step.confidence for step in steps], seen, atol=1e-5)


def test_adjacent_is_a_pair_of_its_own(weights):
    frames = noise(3, 64, 64)
    adjacent = followed(weights["tiny"], frames, "adjacent")
    np.testing.assert_array_equal(adjacent[2].flow, followed(weights["tiny"], frames[1:], "first")[1].flow)


def test_the_clone_is_on_the_path_only_while_it_is_imported(weights):
    AllTracker(CLONE, weights["tiny"], "cpu")
    assert CLONE not in sys.path


def test_other_modules_of_the_same_name_are_refused(monkeypatch, tmp_path):
    other = ModuleType("utils.misc")
    other.__file__ = f"{tmp_path}/misc.py"
    monkeypatch.setitem(sys.modules, "utils.misc", other)
    with pytest.raises(ValueError, match=r"misc.py has the name of .*utils/misc.py, and was imported first"):
        alltracker._modules(CLONE)


def test_weights_of_something_else_are_refused(tmp_path):
    torch.save({"model": {"fnet.other": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth are not the weights of AllTracker \(tiny\)"):
        AllTracker(CLONE, str(Path(tmp_path, "other.pth")), "cpu")
