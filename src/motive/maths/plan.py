"""The randomness that all clips share, pool and queries alike: noise levels and the noise."""

from dataclasses import dataclass
from hashlib import sha256

from jaxtyping import Float
from torch import Tensor

from motive.maths.denoising import common_noise


@dataclass(frozen=True)
class Plan:
    """At which noise levels a clip is looked at (sigma in (0,1)), and the seed of the one noise."""

    sigmas: tuple[float, ...]
    noise_seed: int

    @property
    def digest(self) -> str:
        """Equal plans have equal digests; sketches of different plans can't be compared."""
        return sha256(repr((self.sigmas, self.noise_seed)).encode()).hexdigest()[:16]

    def noise(self, shape: tuple[int, int, int, int]) -> Float[Tensor, "C T h w"]:
        """The common noise: of a longer clip it only has more frames."""
        return common_noise(self.noise_seed, shape)
