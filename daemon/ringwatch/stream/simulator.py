"""A spotty powder and a seed in, detector frames out, one after the other, and on request through a `Sender`."""

import threading
from collections.abc import Iterator, Mapping
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import ConfigError
from ringwatch.messages import Scalar, SeriesStart
from ringwatch.stream.encode import EV_ANGSTROM, Encoded, compress_bslz4
from ringwatch.stream.powder import Powder, pixel_mask, pixels, polarization, position_px, rings
from ringwatch.stream.sender import Progress, Sender, SendReport

DEFAULT_SEED = 6
"""Amplitudes have heavy tails: with this seed 200 frames of the tutorial preset look like the published ones."""

MAX_SPOTS = 1_000_000
"""Limit for the spots of one frame: each costs 2 kB while it is drawn."""

MAX_KEPT_BYTES = 1 << 30
"""Limit for frames that are drawn beforehand."""


def simulate(
    sender: Sender,
    powder: Powder,
    n_frames: int,
    *,
    rate_hz: float = 0.0,
    seed: int = DEFAULT_SEED,
    series: int = 1,
    distinct: int | None = None,
    progress: Progress | None = None,
) -> SendReport:
    """Send a series of simulated frames, compressed with bitshuffle-LZ4.

    Parameters
    ----------
    n_frames
        Length of the series.
    rate_hz
        Frames a second; 0 = as fast as it goes.
    seed
        Names the draw: same powder and seed, same frames.
    distinct
        How many different frames are drawn. They are drawn and compressed before the first one is sent, and repeated
        in order until the series is full: the schedule holds at any rate, but the sample repeats. By default every
        frame is new and drawn when it is due: then the rate is limited to what one core draws (about 8 frames a
        second of the tutorial preset, 100 of the truth preset), and the report says how late they were.

    Raises
    ------
    ConfigError
        A frame has too many spots, or the distinct frames need more than 1 GiB.
    StreamError
        No receiver came, or it takes nothing any more.
    """
    simulator = Simulator(powder, seed)
    start = SeriesStart(
        series=series,
        header=_description(powder),
        shape=powder.shape,
        dtype=powder.dtype,
        frames_expected=n_frames,
        frame_time_s=1 / rate_hz if rate_hz else None,
        energy_eV=EV_ANGSTROM / (powder.wavelength_m * 1e10),
        pixel_size_m=(powder.pixel_size_m, powder.pixel_size_m),
        pixel_mask=simulator.pixel_mask,
        flatfield_applied=True,
    )
    frames = _drawn(simulator)
    if distinct is not None:
        frames = cycle(_kept(frames, distinct, sender.stop))
    return sender.send(start, enumerate(islice(frames, n_frames)), rate_hz, progress)


class Simulator:
    """Draws the frames of one series.

    Frame k depends on the powder, the seed and k alone. Spots come and go as a stationary process: from one frame to
    the next a spot survives with ``powder.survival``, and as many new ones appear as go on average.

    Parameters
    ----------
    powder
        What is simulated.
    seed
        Names the series: same seed, same frames.

    Attributes
    ----------
    pixel_mask
        True = gap or dead pixel; these carry ``powder.dummy``.

    Raises
    ------
    ConfigError
        The crystallites make more than a million spots a frame.
    """

    def __init__(self, powder: Powder, seed: int) -> None:
        self.powder = powder
        self.pixel_mask = pixel_mask(powder)
        self._seed = seed
        self._next = 0
        self._masked = np.flatnonzero(self.pixel_mask)
        seen = pixels(powder)
        self._brightest = float(seen.background.max())
        self._relative = (seen.background / self._brightest).astype(np.float32).reshape(-1)
        self._rings = rings(powder, float(seen.radius_px.max()) + _reach_px(powder))
        if self._rings.spots.sum() > MAX_SPOTS:
            raise ConfigError([f"{powder.crystallites:g} crystallites make more than {MAX_SPOTS} spots a frame"])
        rng = self._rng()
        self._static = self._new_spots(rng, powder.static_fraction)
        self._moving = self._new_spots(rng, 1 - powder.static_fraction)

    def frame(self) -> NDArray[Any]:
        """The next frame, shape ``powder.shape``, type ``powder.dtype``."""
        self._next += 1
        rng = self._rng()
        if self._next > 1:
            self._move(rng)
        flat = np.zeros(self.powder.shape[0] * self.powder.shape[1], np.uint32)
        self._draw_background(flat, rng)
        self._draw_spots(flat, np.concatenate([self._static, self._moving], axis=1), rng)
        if self.powder.dtype.itemsize < flat.itemsize:  # a full counter stays full
            np.minimum(flat, np.iinfo(self.powder.dtype).max, out=flat)
        frame = flat.astype(self.powder.dtype, copy=False)
        frame[self._masked] = self.powder.dummy
        return frame.reshape(self.powder.shape)

    def _rng(self) -> np.random.Generator:
        """One generator a frame: what one frame draws does not shift the next one's numbers."""
        return np.random.default_rng((self._seed, self._next))

    def _move(self, rng: np.random.Generator) -> None:
        powder = self.powder
        stays = rng.random(self._moving.shape[1]) < powder.survival
        new = self._new_spots(rng, (1 - powder.static_fraction) * (1 - powder.survival))
        self._moving = np.concatenate([self._moving[:, stays], new], axis=1)

    def _new_spots(self, rng: np.random.Generator, share: float) -> NDArray[np.float64]:
        """Spots of a share of the crystallites: row, column, expected photons; shape (3, spots)."""
        powder = self.powder
        ring = np.repeat(np.arange(len(self._rings.spots)), rng.poisson(share * self._rings.spots))
        radius_px = self._rings.radius_px[ring] + powder.ring_jitter_px * rng.standard_normal(len(ring))
        azimuth_rad = 2 * np.pi * rng.random(len(ring))
        photons = self._rings.photons[ring] * _amplitudes(powder, rng, len(ring))
        photons *= polarization(powder, radius_px, azimuth_rad)
        row, column = position_px(powder, radius_px, azimuth_rad)
        reach = _reach_px(powder)
        rows, columns = powder.shape
        seen = (-reach < row) & (row < rows + reach) & (-reach < column) & (column < columns + reach)
        return np.stack([row, column, photons])[:, seen]

    def _draw_background(self, flat: NDArray[np.uint32], rng: np.random.Generator) -> None:
        """Add Poisson noise to every pixel at the cost of one draw a photon instead of one a pixel.

        A uniform rain of photons of which each is kept with the probability that its pixel asks for (thinning).
        """
        photons = rng.poisson(self._brightest * flat.size)
        pixel = rng.integers(0, flat.size, photons, dtype=np.uint32)
        kept = rng.random(photons, dtype=np.float32) < self._relative[pixel]
        np.add.at(flat, pixel[kept], np.uint32(1))

    def _draw_spots(self, flat: NDArray[np.uint32], spots: NDArray[np.float64], rng: np.random.Generator) -> None:
        """Add Gaussian spots, each pixel's photons Poisson around the Gaussian at its centre."""
        reach = _reach_px(self.powder)
        rows, columns = self.powder.shape
        offset = np.arange(-reach, reach + 1)
        row, column = np.rint(spots[:2]).astype(np.int64)[:, :, np.newaxis] + offset
        along_rows = _gauss(row - spots[0, :, np.newaxis], self.powder.spot_sigma_px)
        along_columns = _gauss(column - spots[1, :, np.newaxis], self.powder.spot_sigma_px)
        along_rows *= spots[2, :, np.newaxis]
        counts = rng.poisson(along_rows[:, :, np.newaxis] * along_columns[:, np.newaxis, :])
        spot, i, j = np.nonzero(counts)
        y, x = row[spot, i], column[spot, j]
        inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        np.add.at(flat, (y * columns + x)[inside], counts[spot, i, j][inside].astype(np.uint32))


def _description(powder: Powder) -> Mapping[str, Scalar]:
    """What a detector says of itself beyond the messages' own fields."""
    return {
        "detector_description": f"simulated {powder.detector}",
        "beam_center_x": powder.poni2_m / powder.pixel_size_m,
        "beam_center_y": powder.poni1_m / powder.pixel_size_m,
    }


def _drawn(simulator: Simulator) -> Iterator[Encoded]:
    """Frames without end, each drawn and compressed when it is asked for."""
    while True:
        yield "bslz4", compress_bslz4(simulator.frame())


def _kept(frames: Iterator[Encoded], n: int, stop: threading.Event) -> list[Encoded]:
    """The first n frames, fewer if stopped."""
    kept: list[Encoded] = []
    size_bytes = 0
    while len(kept) < n and not stop.is_set():
        kept.append(next(frames))
        size_bytes += len(kept[-1][1])
        if size_bytes > MAX_KEPT_BYTES:
            raise ConfigError([f"{n} distinct frames need more than {MAX_KEPT_BYTES >> 20} MiB: {len(kept) - 1} fit"])
    return kept


def _reach_px(powder: Powder) -> int:
    """Half width of the square in which a spot is drawn; outside there is less than 0.1 % of it."""
    return int(np.ceil(3.5 * powder.spot_sigma_px))


def _gauss(distance_px: NDArray[np.float64], sigma_px: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-(distance_px**2) / (2 * sigma_px**2)) / (np.sqrt(2 * np.pi) * sigma_px))


def _amplitudes(powder: Powder, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Relative photons of n spots, mean 1."""
    if powder.amplitudes == "gamma":
        shape = powder.spread**-2
        return rng.gamma(shape, 1 / shape, n)
    return rng.lognormal(-(powder.spread**2) / 2, powder.spread, n)
