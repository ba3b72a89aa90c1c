"""Series of spotty frames, fast: what the statistics see of them, without the frames themselves.

The photons of the summed image between two evaluations are Poisson distributed about the summed expectation, so they
are drawn at once; of single frames only the sectors of every eighth are drawn, as the reduction samples them.
"""

from dataclasses import dataclass, replace

import numpy as np

from ringwatch.stream.powder import TRUTH, Powder, pixels, position_px, rings
from ringwatch_gpu import exact
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.geometry_pyfai import SECTORS
from ringwatch_gpu.reference import ImageSums
from ringwatch_gpu.sectors import GROUPS
from ringwatch_gpu.spottiness import bin_weights

SAMPLED = 8
POWDER = replace(
    TRUTH, distance_m=0.034, background_photons=0.2, dead_fraction=0.0, spot_sigma_px=1.0, ring_jitter_px=0.6
)
_LARGEST_RADIUS_PX = 240.0
_CHUNK = 20000


class Scene:
    """Detector and rings, the same for all series of a study."""

    def __init__(self, powder: Powder = POWDER) -> None:
        self.powder = powder
        self.geometry = Geometry.from_poni(powder.poni(), solid_angle=False, polarization=None)
        seen = rings(powder, _LARGEST_RADIUS_PX)
        self.radius_px, self.photons = seen.radius_px, seen.photons
        self.background = pixels(powder).background.ravel()
        group = np.minimum(self.geometry.bin_table.astype(np.int64) * GROUPS // self.geometry.bins, GROUPS)
        self.cells = GROUPS * SECTORS
        self.cell = np.where(group < GROUPS, group * SECTORS + self.geometry.sector, self.cells)
        self.cell_background = np.bincount(self.cell, self.background, self.cells + 1)[:-1]
        bins = self.geometry.bins
        self._bin = self.geometry.bin_table.astype(np.int64)
        self._fine_cell = np.minimum(self._bin, bins) * SECTORS + self.geometry.sector
        self._pixels = self._summed(np.ones(self.background.size))

    def image_sums(self, image: np.ndarray, n_frames: int) -> ImageSums:
        """What `reference.evaluate_image` gives for a sum of frames whose pixels are all valid and of equal norm."""
        geometry, bins = self.geometry, self.geometry.bins
        quanta, cake = float(geometry.norm_q[0]), self._summed(image.astype(np.float64))
        signal, count = cake.sum(axis=1), self._pixels.sum(axis=1)
        mean = signal / np.maximum(count, 1)
        squares = self._summed((image - np.append(mean, 0.0)[self._bin]) ** 2)
        weights = bin_weights(signal, mean, count, geometry.azimuth_fraction)
        variance, norm = squares.sum(axis=1), count * quanta
        return ImageSums(
            signal.astype(np.int64), exact.words((norm * n_frames).astype(np.uint64)), count.astype(np.uint64),
            norm * quanta * n_frames**2, variance, signal / n_frames, norm, variance / n_frames**2,
            cake.astype(np.int64), self._pixels * quanta * n_frames,
            squares, weights, np.zeros(bins, np.uint64),
        )  # fmt: skip

    def _summed(self, values: np.ndarray) -> np.ndarray:
        """Sums of pixels in the cells (bin, sector)."""
        size = (self.geometry.bins + 1) * SECTORS
        return np.bincount(self._fine_cell, values, size).reshape(-1, SECTORS)[:-1]


@dataclass(frozen=True)
class Sample:
    """How many spots are on each ring, how long they stay, and how their photons vary."""

    spots: np.ndarray
    law: str
    survival: float = 0.0
    static: float = 0.0

    @property
    def second_moment(self) -> float:
        """Mean square of the photons of a spot over the squared mean."""
        return 2.0 if self.law == "gamma" else float(np.exp(float(self.law) ** 2))

    def shared(self, n_frames: float) -> float:
        """Share of a single frame's relative variance that is left in the sum of N frames."""
        q, n = self.survival, n_frames
        moving = (1 + q) / (n * (1 - q)) - 2 * q * (1 - q**n) / (n * (1 - q)) ** 2
        return self.static + (1 - self.static) * moving

    def amplitudes(self, n: int, random: np.random.Generator) -> np.ndarray:
        """Photons of n spots in units of their mean."""
        if self.law == "gamma":
            return random.exponential(1.0, n)
        width = float(self.law)
        return np.exp(width * random.standard_normal(n) - width**2 / 2)


class SpotSeries:
    """One series: advance it to a number of frames, and look at the summed image and the sampled sectors."""

    def __init__(self, scene: Scene, sample: Sample, n_frames: int, seed: int) -> None:
        self.scene, self.random = scene, np.random.default_rng(seed)
        ring, self.birth, self.death = _population(sample, n_frames, self.random)
        powder, n = scene.powder, len(ring)
        self.amplitude = scene.photons[ring] * sample.amplitudes(n, self.random)
        radius = scene.radius_px[ring] + powder.ring_jitter_px * self.random.standard_normal(n)
        self.row, self.column = position_px(powder, radius, 2 * np.pi * self.random.random(n))
        self.image = np.zeros(scene.background.size, np.uint64)
        self.n_frames = 0

    def advance(self, n_frames: int, *, sample_sectors: bool = True) -> list[np.ndarray]:
        """Add frames up to ``n_frames``; the sectors (groups, sectors) of the sampled ones among them."""
        born = np.searchsorted(self.birth, n_frames)
        seen = np.flatnonzero(self.death[:born] > self.n_frames)
        frames = np.minimum(self.death[seen], n_frames) - np.maximum(self.birth[seen], self.n_frames)
        expected = (n_frames - self.n_frames) * self.scene.background + self._photons(seen, frames, None)
        self.image += self.random.poisson(expected).astype(np.uint64)
        first = -(-self.n_frames // SAMPLED) * SAMPLED
        self.n_frames = n_frames
        return [self._sectors(frame, born) for frame in range(first, n_frames, SAMPLED)] if sample_sectors else []

    def _sectors(self, frame: int, born: int) -> np.ndarray:
        seen = np.flatnonzero((self.birth[:born] <= frame) & (self.death[:born] > frame))
        expected = self._photons(seen, np.ones(len(seen)), self.scene.cell)[: self.scene.cells]
        counts = self.random.poisson(expected + self.scene.cell_background)
        return counts.astype(np.uint64).reshape(GROUPS, SECTORS)

    def _photons(self, spots: np.ndarray, frames: np.ndarray, cell: np.ndarray | None) -> np.ndarray:
        """Expected photons of spots in pixels, or in cells of pixels."""
        size = self.scene.background.size if cell is None else self.scene.cells + 1
        total = np.zeros(size)
        for start in range(0, len(spots), _CHUNK):
            part = slice(start, start + _CHUNK)
            pixel, photons = self._footprint(spots[part], frames[part])
            index = pixel if cell is None else cell[pixel]
            total += np.bincount(index, photons, size)
        return total

    def _footprint(self, spots: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sigma, (_, columns) = self.scene.powder.spot_sigma_px, self.scene.powder.shape
        reach = np.arange(-int(np.ceil(3.5 * sigma)), int(np.ceil(3.5 * sigma)) + 1)
        row, column = (
            np.rint(place).astype(np.int64)[:, np.newaxis] + reach for place in (self.row[spots], self.column[spots])
        )
        height = np.exp(-((row - self.row[spots, np.newaxis]) ** 2) / (2 * sigma**2))
        width = np.exp(-((column - self.column[spots, np.newaxis]) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
        photons = (self.amplitude[spots] * frames)[:, np.newaxis] * height
        pixel = (row * columns)[:, :, np.newaxis] + column[:, np.newaxis, :]
        return pixel.ravel(), (photons[:, :, np.newaxis] * width[:, np.newaxis, :]).ravel()


def _population(sample: Sample, n_frames: int, random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Ring, first frame and the frame after the last of each spot, in order of birth."""
    moving, last = sample.spots * (1 - sample.static), n_frames + 1
    fresh = np.zeros((len(moving), n_frames))
    fresh[:, 0] = moving
    fresh[:, 1:] = (moving * (1 - sample.survival))[:, np.newaxis]
    born = random.poisson(fresh)
    ring, birth = (np.repeat(where, born[born > 0]) for where in np.nonzero(born))
    life = random.geometric(1 - sample.survival, len(ring)) if sample.survival else np.ones(len(ring), np.int64)
    static = np.repeat(np.arange(len(moving)), random.poisson(sample.spots * sample.static))
    rings_of = np.concatenate([ring, static])
    births = np.concatenate([birth, np.zeros(len(static), np.int64)])
    deaths = np.concatenate([np.minimum(birth + life, last), np.full(len(static), last)])
    order = np.argsort(births, kind="stable")
    return rings_of[order], births[order], deaths[order]
