"""Made-up spots with known truth: counts of rings in azimuthal sectors, and small frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ringwatch_gpu import exact
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.geometry_pyfai import SECTORS
from ringwatch_gpu.grains import Cake, RingScatter, ring_scatter
from ringwatch_gpu.reference import ImageSums, evaluate_image
from ringwatch_gpu.rings import Rings
from ringwatch_gpu.sums import RingProfile
from tests.kernels import synthetic

Array = NDArray[np.float64]


def even(rings: int) -> Array:
    """Expected counts of rings that are seen all around, and equally long everywhere."""
    return np.ones((rings, SECTORS))


@dataclass(frozen=True)
class Spots:
    """Spots that fall at random on rings.

    ``mean`` number on a ring, ``photons`` of a spot, ``width`` of a spot in sectors (standard deviation), ``cv`` of the
    photons: 1 (exponential) or 0 (all alike).
    """

    mean: float
    photons: float
    width: float = 0.0
    cv: int = 1

    @property
    def variance(self) -> float:
        """Relative variance of a ring's intensity: (1 + cv^2) / K."""
        return (1 + self.cv**2) / self.mean

    def on(self, rings: int, random: np.random.Generator) -> Array:
        """Expected photons of one set of spots, shape (rings, sectors)."""
        ring = np.repeat(np.arange(rings), random.poisson(self.mean, rings))
        photons = self.photons * (random.exponential(1.0, ring.size) if self.cv else np.ones(ring.size))
        at = random.uniform(0, SECTORS, ring.size)
        total = np.zeros((rings, SECTORS))
        reach = int(np.ceil(4 * self.width))
        for offset in range(-reach, reach + 1):
            sector = np.floor(at).astype(int) + offset
            width = max(self.width, 1e-9)
            inside = ndtr((sector + 1 - at) / width) - ndtr((sector - at) / width)
            np.add.at(total, (ring, sector % SECTORS), photons * inside)
        return total


def scatter_of(
    counts: Array, background: float = 0.0, norm: Array | None = None, overlap_length: float = 0.0
) -> RingScatter:
    """What `ring_scatter` makes of rings that are one bin each, over a known background of counts a ring."""
    rings = np.arange(len(counts))
    norm = even(len(counts)) if norm is None else norm
    image = cells(counts, norm)
    total, norms = counts.sum(axis=1), norm.sum(axis=1)
    profile = RingProfile.of(total, total, norms, norms, norms)
    level = np.where(norms > 0, background / np.where(norms > 0, norms, 1.0), 0.0)
    return ring_scatter(
        Cake(image, 1), Rings(rings, rings + 1, rings * 1.0, rings * 1.0, level), profile, overlap_length
    )


def cells(counts: Array, norm: Array) -> ImageSums:
    """Sums of an image of which nothing but the cake is known."""
    bins, nothing = len(counts), np.zeros(len(counts))
    return ImageSums(
        signal=counts.sum(axis=1).astype(np.int64),
        norm=exact.words(norm.sum(axis=1).astype(np.uint64)),
        count=np.zeros(bins, np.uint64),
        norm_sq=nothing,
        variance=nothing,
        averaged_signal=nothing,
        averaged_norm=nothing,
        averaged_variance=nothing,
        cake_signal=counts.astype(np.int64),
        cake_norm=norm,
        bin_weights=np.zeros((bins, 3)),
        cake_scatter=np.zeros((bins, SECTORS)),
        zeros=np.zeros(bins, np.uint64),
    )


def disc(size: int = 96, bins: int = 40) -> Geometry:
    """A small detector, the beam off its centre."""
    return synthetic.geometry((size, size), bins, masked=0.02)


def summed(image: Array, geometry: Geometry, n_frames: int = 1) -> ImageSums:
    """Sums of an image (rows, columns) of counts in which every pixel was always valid."""
    counts = np.where(geometry.mask, 0, image).ravel().astype(np.uint64)
    return evaluate_image(counts, np.zeros(geometry.pixels, np.uint32), n_frames, geometry)


def profile_of(image: ImageSums, geometry: Geometry) -> RingProfile:
    """Profile that belongs to the sums."""
    quantum = geometry.norm_quantum
    return RingProfile.of(
        image.signal.astype(float),
        image.variance,
        exact.to_float(image.norm) * quantum,
        image.norm_sq * quantum**2,
        image.count.astype(float),
    )
