"""One clip's work with a model that is nobody's but the caller's: no params.yaml, no folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import motive
from motive.maths.denoising import motion_weighted_loss, noised, target_velocity

DIM = 4096
SHAPE = (3, 4, 6, 6)
PLAN = motive.Plan(sigmas=(0.3, 0.7), noise_seed=0)
PAPER = {"camera": "keep", "floor": 0.0, "percentile": 100.0, "confidence": False, "enabled": True}


class Foreign(nn.Module):
    """A denoiser of somebody else's: it hears the noise level and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.space = nn.Conv3d(3, 8, 3, padding=1)
        self.back = nn.Conv3d(8, 3, 3, padding=1)
        self.words = nn.Linear(5, 8)

    def forward(self, x: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        words = self.words(prompt.mean(1) * t[:, None])
        return self.back(torch.tanh(self.space(x) + words[:, :, None, None, None]))


def velocity(model: nn.Module, noised: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
    return model(noised, sigma, prompt=text)


@pytest.fixture
def model() -> Foreign:
    torch.manual_seed(0)
    return Foreign()


@pytest.fixture
def sketch(model: Foreign) -> Callable[..., dict[str, Tensor]]:
    def sketch(latent: Tensor, text: Tensor, mask: Tensor, segments: int = 1) -> dict[str, Tensor]:
        return motive.sketch_clip(
            latent,
            text,
            mask,
            model=model,
            velocity=velocity,
            plan=PLAN,
            projection=motive.CountSketch(DIM, seed=0),
            segments=segments,
            storage="float32",
        )

    return sketch


def clip(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return (
        torch.randn(SHAPE, generator=rng).half(),
        torch.randn(7, 5, generator=rng).bfloat16(),
        torch.rand(SHAPE[1:], generator=rng).half(),
    )


def whole_gradients(model: nn.Module, latent: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    """[K,P] by autograd in one piece, of unit length."""
    z = latent.float()
    eps = PLAN.noise(SHAPE)
    rows = []
    for sigma in PLAN.sigmas:
        v = velocity(model, noised(z, eps, sigma)[None], torch.tensor([sigma]), text.float()[None])[0]
        loss = motion_weighted_loss(v, target_velocity(z, eps), mask.float())
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return nn.functional.normalize(torch.stack(rows), dim=1)


def test_sketches_of_a_foreign_model_keep_the_cosines_of_its_gradients(model, sketch) -> None:
    sketches = torch.stack([sketch(*clip(seed))["sketch"] for seed in range(4)])
    kept = motive.influence(sketches, sketches, torch.ones(4, dtype=torch.bool))
    gradients = torch.stack([whole_gradients(model, *clip(seed)) for seed in range(4)])
    exact = torch.einsum("nkp,qkp->nq", gradients, gradients) / len(PLAN.sigmas)
    torch.testing.assert_close(kept, exact, atol=4 * DIM**-0.5, rtol=0)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_segments_add_up_to_the_clip(sketch) -> None:
    whole = sketch(*clip(0))
    cut = sketch(*clip(0), segments=2)
    torch.testing.assert_close(cut["segments"].float().sum(0), whole["sketch"], atol=2e-3, rtol=0)
    torch.testing.assert_close(cut["loss"], whole["loss"])


def test_what_stands_still_has_an_empty_sketch(sketch) -> None:
    latent, text, mask = clip(0)
    still = sketch(latent, text, torch.zeros_like(mask))
    assert not still["ok"]
    assert not still["sketch"].any()


def test_only_parameters_that_require_a_gradient_count(model, sketch) -> None:
    everything = sketch(*clip(0))["norm"]
    model.words.requires_grad_(False)
    assert (sketch(*clip(0))["norm"] < everything).all()


def test_a_loss_that_is_no_number_is_said_with_its_noise_level(sketch) -> None:
    latent, text, mask = clip(0)
    with pytest.raises(FloatingPointError, match=r"the loss at sigma 0\.3 is not finite"):
        sketch(torch.full_like(latent, torch.inf), text, mask)


def test_frames_become_flow_and_flow_a_mask_where_something_moves() -> None:
    frames = np.full((9, 64, 64, 3), 60, np.uint8)
    rng = np.random.default_rng(0)
    thing = rng.integers(0, 255, (16, 16, 3), np.uint8)
    for f in range(9):
        frames[f, 24:40, 4 + 3 * f : 20 + 3 * f] = thing
    tracker = motive.load_tracker(
        {"tracker": "dis", "preset": "medium", "reference": "adjacent", "check": False}
    )
    flow = motive.optical_flow(iter(frames), tracker, reference="adjacent", stride=4, fps=12.0)
    assert flow["flow"].shape == flow["residual"].shape == (9, 2, 16, 16)
    mask = motive.motion_mask(flow, grid=(8, 8), time_stride=4, fps=12.0, reference="adjacent", **PAPER)
    assert mask["mask"].shape == (3, 8, 8)
    assert mask["mask"][1:, 3:5].mean() > 5 * mask["mask"][1:, :2].mean()
    assert not mask["mask"][0].any()
    still = motive.optical_flow(frames[:1].repeat(9, 0), tracker, reference="adjacent", stride=4, fps=12.0)
    assert not motive.motion_mask(still, grid=(8, 8), time_stride=4, fps=12.0, reference="adjacent", **PAPER)[
        "mask"
    ].any()


def test_what_is_not_made_yet_is_said(tmp_path: Path) -> None:
    for read in (motive.read_ranking, motive.read_influence, motive.read_subset):
        with pytest.raises(ValueError, match="has not finished"):
            read(tmp_path)
