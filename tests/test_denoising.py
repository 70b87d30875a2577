"""Laws of noising and of the motion-weighted loss."""

import torch

from motive.maths.denoising import common_noise, motion_weighted_loss, noised, shifted, target_velocity


def test_a_mask_of_ones_is_the_plain_loss() -> None:
    v, target = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6)
    plain = torch.nn.functional.mse_loss(v, target, reduction="none").mean((1, 2, 3, 4))
    torch.testing.assert_close(motion_weighted_loss(v, target, torch.ones(2, 4, 5, 6)), plain)


def test_what_the_mask_hides_is_not_seen() -> None:
    v, target, W = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 5, 6), torch.zeros(4, 5, 6)
    W[2, 3, 1] = 0.5
    seen = motion_weighted_loss(v, target, W)
    torch.testing.assert_close(seen, 0.5 * (v - target)[:, 2, 3, 1].pow(2).sum() / v.numel())
    v[:, 0] += 100
    assert torch.equal(seen, motion_weighted_loss(v, target, W))


def test_sigma_runs_from_the_latent_to_the_noise_along_the_velocity() -> None:
    z, eps = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(noised(z, eps, 0.0), z)
    assert torch.equal(noised(z, eps, 1.0), eps)
    step = noised(z, eps, 0.3) + 0.7 * target_velocity(z, eps)
    torch.testing.assert_close(step, eps)


def test_long_and_short_clips_share_their_noise() -> None:
    short, long = common_noise(7, (4, 3, 5, 6)), common_noise(7, (4, 9, 5, 6))
    assert torch.equal(short, long[:, :3])
    assert not torch.equal(short, common_noise(8, (4, 3, 5, 6)))
    assert abs(long.mean()) < 0.1
    assert abs(long.std() - 1) < 0.1


def test_the_shift_of_the_papers_timestep() -> None:
    """Index 500 of a 1000-step schedule with shift 3 is the paper's sigma 0.751."""
    sigmas = shifted(torch.linspace(1, 1 / 1000, 1000), 3.0)
    assert round(float(sigmas[499]), 3) in (0.75, 0.751)
    torch.testing.assert_close(shifted(torch.tensor([0.0, 0.4, 1.0]), 1.0), torch.tensor([0.0, 0.4, 1.0]))
