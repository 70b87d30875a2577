"""Laws of RAFT in torchvision's own classes with random weights; run by test_network_trackers.py."""

from testing import torchvision_ops  # noqa: F401  (before torchvision, which needs what it declares)

# isort: split
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_large, raft_small  # pyright: ignore[reportMissingImports]

from motive.trackers.interface import FlowStep, load_tracker
from motive.trackers.raft import Raft

MODELS = {"large": raft_large, "small": raft_small}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of random weights; `small` as safetensors."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(raft_small().state_dict(), folder / "small.safetensors")
    torch.save(raft_large().state_dict(), folder / "large.pth")
    return {"small": f"{folder}/small.safetensors", "large": f"{folder}/large.pth"}


def noise(num_frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), np.uint8)


def followed(
    weights: str, frames: np.ndarray, reference: str = "adjacent", check: bool = False
) -> list[FlowStep]:
    settings = {
        "tracker": "raft",
        "weights": weights,
        "device": "cpu",
        "reference": reference,
        "check": check,
    }
    return list(load_tracker(settings)(iter(frames)))


@pytest.mark.parametrize("name", MODELS)
def test_the_size_is_read_off_the_weights_and_the_vectors_are_torchvisions(weights, name):
    frames = noise(2, 128, 136)
    raft = Raft(weights[name], "cpu")
    assert (raft.network.mask_predictor is not None) == (name == "large")
    model = MODELS[name]().eval()
    model.load_state_dict(raft.network.state_dict())
    pair = torch.from_numpy(frames).permute(0, 3, 1, 2)[:, None] / 127.5 - 1
    with torch.inference_mode():
        theirs = model(*pair)[-1][0].numpy()
    ours, sure = raft(*frames)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert (sure == 1).all()


@pytest.mark.parametrize("size", [(64, 64), (17, 40), (130, 141)])
@pytest.mark.parametrize("reference", ["adjacent", "first"])
def test_any_size_keeps_its_shape_and_frame_0_stays(weights, size, reference):
    steps = followed(weights["small"], noise(3, *size), reference)
    assert [(flow.shape, sure.shape) for flow, sure in steps] == [((2, *size), size)] * 3
    assert {array.dtype.name for one in steps for array in one} == {"float32"}
    assert not steps[0].flow.any()
    assert all(np.isfinite(flow).all() for flow, _ in steps)


def test_a_pair_gives_the_same_vectors_in_a_clip_and_alone(weights):
    frames = noise(3, 64, 64)
    np.testing.assert_array_equal(
        followed(weights["small"], frames)[2].flow, followed(weights["small"], frames[1:])[1].flow
    )


def test_what_random_weights_find_does_not_return(weights):
    assert followed(weights["small"], noise(2, 128, 128), check=True)[1].confidence.mean() < 0.5


def test_weights_of_something_else_are_refused(tmp_path):
    save_file({"layer.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"other.safetensors are not the weights of torchvision's raft_small: Miss"
    ):
        Raft(f"{tmp_path}/other.safetensors", "cpu")
    shapes = {name: torch.ones(1) for name in raft_small().state_dict()}
    torch.save(shapes, tmp_path / "shapes.pth")
    with pytest.raises(ValueError, match="size mismatch"):
        Raft(str(Path(tmp_path, "shapes.pth")), "cpu")
