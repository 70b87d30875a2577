"""The grouping of frames to latent frames is what real causal VAEs see, frame by frame."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from motive.maths.motion_mask import to_latent_frames
from motive.models.backbones import load_vae
from motive.models.folder import read_strides
from testing.tiny_backbones import ltx_vae, wan_21_vae, wan_22_vae

ROOT = Path(__file__).parents[1]


def shipped() -> Any:
    return load_vae(str(ROOT / "models/tiny-wan"), "cpu")


@pytest.mark.parametrize(
    ("build", "strides"), [(wan_21_vae, (4, 8)), (wan_22_vae, (4, 16)), (ltx_vae, (8, 32)), (shipped, (1, 4))]
)
@torch.no_grad()
def test_a_frame_is_seen_first_by_the_latent_frame_of_its_group(
    build: Callable[[], Any], strides: tuple[int, int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    vae = build().eval()
    config = {key: value for key, value in vae.config.items() if not key.startswith("_")}
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_text(json.dumps(config))
    assert read_strides(str(tmp_path)) == strides
    time, space = strides
    num_frames = 1 + 2 * max(time, 4)
    video = torch.rand(1, 3, num_frames, 2 * space, 2 * space) * 2 - 1
    latent = vae.encode(video).latent_dist.mode()[0]
    assert latent.shape[1:] == (1 + (num_frames - 1) // time, 2, 2)
    for frame in range(num_frames):
        changed = video.clone()
        changed[:, :, frame] = -changed[:, :, frame]
        differs = (vae.encode(changed).latent_dist.mode()[0] != latent).flatten(2).any(2).any(0)
        weights = torch.zeros(num_frames, 1, 1)
        weights[frame] = 1
        [group] = to_latent_frames(weights, time).flatten().nonzero().flatten().tolist()
        assert int(differs.nonzero()[0]) == group, f"frame {frame} is first seen elsewhere"
