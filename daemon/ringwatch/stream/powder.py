"""Physics of a spotty powder on a detector in, its rings, pixels and PONI file out. Plain numbers, no randomness.

Each crystallite that happens to fulfil Bragg's law makes one spot; a ring is the sum of its spots. The number of spots
on a ring and the photons in a spot follow from kinematical diffraction of silicon powder (SRM 640).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import ConfigError

SILICON_A = 5.431179
"""Lattice parameter of SRM 640 silicon, angstrom."""

SILICON_B_FACTOR = 0.46
"""Debye-Waller factor at room temperature, square angstrom."""

SILICON_GAUSSIANS = ((6.2915, 2.4386), (3.0353, 32.3337), (1.9891, 0.6785), (1.5410, 81.6937), (1.1407, 0.0))
"""Atomic scattering factor as a sum of a exp(-b s^2) with s = sin(theta)/lambda (International Tables C, 6.1.1.4)."""

EIGER_ROW_GAPS = tuple(slice(512 * k + 38 * (k - 1), 550 * k) for k in (1, 2, 3))
EIGER_COLUMN_GAPS = (slice(513, 515), slice(1028, 1040), slice(1553, 1555))
"""Between the modules of an EIGER2 CdTe 4M and between the two sensors of a module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Powder:
    """Sample, beam and detector of a simulated series.

    Attributes
    ----------
    detector
        pyFAI's name of the detector: its gaps are simulated. "Detector" is a plain one without gaps.
    shape
        (rows, columns).
    pixel_size_m, distance_m, poni1_m, poni2_m, rot1_rad, rot2_rad
        Geometry with pyFAI's meaning; pixels are square.
    wavelength_m
        Of the monochromatic beam.
    polarization
        Degree of linear polarization in the plane of the columns (pyFAI's polarization factor); 0 = unpolarized.
    crystallites
        Number of crystallites in the beam.
    rocking_rad
        Angular range over which a crystallite reflects.
    spot_photons
        Mean photons of a spot of the innermost ring in one frame.
    amplitudes, spread
        Law of the crystallites' sizes, its mean is 1: "gamma" with ``spread`` the coefficient of variation, or
        "lognormal" with ``spread`` the standard deviation of the logarithm.
    spot_sigma_px, ring_jitter_px
        Gaussian width of a spot; scatter of the spots' radial positions.
    background_photons, background_decay_px
        Photons a pixel and frame at the beam's centre, and how it decays: 30 % of it is constant, 70 % falls
        exponentially with the radius.
    grain_lifetime_frames
        Mean number of frames in which a spot is seen: it survives to the next frame with probability
        1 - 1/lifetime. 1 = a new set of crystallites each frame; infinity = nothing moves.
    static_fraction
        Share of the crystallites that never move.
    dead_fraction
        Share of dead pixels.
    dtype, dummy
        Type of the frames; value of pixels that are dead or in a gap.

    Raises
    ------
    ConfigError
        A lifetime below one frame, a share outside 0 to 1, a negative number of crystallites.
    """

    detector: Literal["Detector", "Eiger2CdTe_4M"] = "Detector"
    shape: tuple[int, int]
    pixel_size_m: float = 75e-6
    distance_m: float
    poni1_m: float
    poni2_m: float
    rot1_rad: float = 0.0
    rot2_rad: float = 0.0
    wavelength_m: float
    polarization: float = 0.0
    crystallites: float
    rocking_rad: float = 1e-3
    spot_photons: float
    amplitudes: Literal["gamma", "lognormal"]
    spread: float
    spot_sigma_px: float = 1.2
    ring_jitter_px: float = 0.8
    background_photons: float
    background_decay_px: float
    grain_lifetime_frames: float = 1.0
    static_fraction: float = 0.0
    dead_fraction: float = 1e-4
    dtype: np.dtype[Any]
    dummy: int

    def __post_init__(self) -> None:
        problems = []
        if not self.grain_lifetime_frames >= 1:
            problems.append(f"a spot is seen in at least one frame, not {self.grain_lifetime_frames:g}")
        if not 0 <= self.static_fraction <= 1:
            problems.append(f"the static share lies between 0 and 1, not at {self.static_fraction:g}")
        if not self.crystallites >= 0:
            problems.append(f"there cannot be {self.crystallites:g} crystallites")
        if problems:
            raise ConfigError(problems, source="simulation")

    @property
    def survival(self) -> float:
        """Probability that a spot is still there in the next frame."""
        return 1.0 - 1.0 / self.grain_lifetime_frames

    @property
    def second_moment(self) -> float:
        """Mean square of the amplitude law over its squared mean: 1 + cv^2."""
        return float(1 + self.spread**2 if self.amplitudes == "gamma" else np.exp(self.spread**2))

    def poni(self) -> str:
        """The geometry as the text of a PONI file, version 2.1."""
        config: dict[str, Any] = {"pixel1": self.pixel_size_m, "pixel2": self.pixel_size_m, "orientation": 3}
        if self.detector == "Detector":
            config["max_shape"] = list(self.shape)
        lines = {
            "poni_version": 2.1,
            "Detector": self.detector,
            "Detector_config": json.dumps(config),
            "Distance": self.distance_m,
            "Poni1": self.poni1_m,
            "Poni2": self.poni2_m,
            "Rot1": self.rot1_rad,
            "Rot2": self.rot2_rad,
            "Rot3": 0.0,
            "Wavelength": self.wavelength_m,
        }
        return "# Simulated detector: axis 1 runs along the rows' index, axis 2 along the columns'\n" + "".join(
            f"{key}: {value}\n" for key, value in lines.items()
        )


TRUTH = Powder(
    shape=(512, 512),
    distance_m=0.1,
    poni1_m=0.0192,
    poni2_m=0.0192,
    wavelength_m=0.305501e-10,
    crystallites=2e4,
    spot_photons=2000.0,
    amplitudes="gamma",
    spread=1.0,
    background_photons=1.0,
    background_decay_px=1000.0,
    dtype=np.dtype(np.uint16),
    dummy=65535,
)
"""Small and well-behaved, with an analytic truth: every frame new, sizes of the crystallites with cv 1."""

TUTORIAL = Powder(
    detector="Eiger2CdTe_4M",
    shape=(2162, 2068),
    distance_m=0.1178702,
    poni1_m=0.08783056,
    poni2_m=0.07342441,
    rot1_rad=-0.005004,
    rot2_rad=0.001866,
    wavelength_m=0.305501e-10,
    polarization=0.99,
    crystallites=4e4,
    spot_photons=300.0,
    amplitudes="lognormal",
    spread=2.5,
    background_photons=0.15,
    background_decay_px=600.0,
    grain_lifetime_frames=3.3,
    dtype=np.dtype(np.uint32),
    dummy=65535,
)
"""Geometry and statistics of pyFAI's tutorial "Powder diffraction with spotty data" (user meeting 2026)."""

PRESETS: Mapping[str, Powder] = {"truth": TRUTH, "tutorial": TUTORIAL}


class Rings(NamedTuple):
    """The Debye-Scherrer rings that reach the detector, arrays of shape (rings,).

    ``radius_px`` on a detector perpendicular to the beam at the same distance; ``spots`` expected on the full ring in
    one frame; ``photons`` of a spot, mean over crystallites and polarization.
    """

    radius_px: NDArray[np.float64]
    spots: NDArray[np.float64]
    photons: NDArray[np.float64]


class Pixels(NamedTuple):
    """What the physics needs of each pixel, arrays of the detector's shape.

    ``radius_px``: radius of its scattering angle on a detector perpendicular to the beam; ``polarization``: photons
    relative to the mean over the azimuth; ``background``: expected photons a frame.
    """

    radius_px: NDArray[np.float64]
    polarization: NDArray[np.float64]
    background: NDArray[np.float64]


def rings(powder: Powder, max_radius_px: float) -> Rings:
    """The silicon rings inside ``max_radius_px``.

    A ring of multiplicity m has N m Delta cos(theta) / 2 spots (Delta the rocking range): the share of randomly
    oriented crystallites in reflecting position. A spot has |F|^2 / sin(2 theta) x (1 + cos^2(2 theta)) / 2 photons
    (Warren, X-ray Diffraction, chapter 4), in units of the innermost ring's.
    """
    wavelength = powder.wavelength_m * 1e10
    spacing, multiplicity, structure_factor_sq = _silicon_reflections(wavelength / np.sqrt(2))  # forward: 2 theta < 90
    theta = np.arcsin(wavelength / 2 / spacing)
    radius_px = powder.distance_m / powder.pixel_size_m * np.tan(2 * theta)
    strength = structure_factor_sq / np.sin(2 * theta) * (1 + np.cos(2 * theta) ** 2) / 2
    spots = powder.crystallites * multiplicity * powder.rocking_rad * np.cos(theta) / 2
    seen = radius_px < max_radius_px
    return Rings(radius_px[seen], spots[seen], powder.spot_photons * strength[seen] / strength[0])


def pixels(powder: Powder) -> Pixels:
    """Radius, polarization and background of every pixel, at its centre ((i + 1/2) pixel sizes from the edge)."""
    along_1, along_2 = ((np.arange(n) + 0.5) * powder.pixel_size_m for n in powder.shape)
    x1, x2 = np.meshgrid(along_1 - powder.poni1_m, along_2 - powder.poni2_m, indexing="ij")
    x3 = np.full_like(x1, powder.distance_m)
    lab_1, lab_2, lab_3 = np.tensordot(rotation(powder), np.stack([x1, x2, x3]), 1)
    radius_px = np.hypot(lab_1, lab_2) / lab_3 * powder.distance_m / powder.pixel_size_m
    relative = polarization(powder, radius_px, np.arctan2(lab_1, lab_2))
    decay = 0.3 + 0.7 * np.exp(-radius_px / powder.background_decay_px)
    return Pixels(radius_px, relative, powder.background_photons * decay * relative)


def polarization(powder: Powder, radius_px: NDArray[Any], azimuth_rad: NDArray[Any]) -> NDArray[np.float64]:
    """Photons relative to the mean over the azimuth: 1 - P cos(2 chi) sin^2(2 theta) / (1 + cos^2(2 theta))."""
    tan_sq = (radius_px * powder.pixel_size_m / powder.distance_m) ** 2
    sin_over_cos = tan_sq / (2 + tan_sq)  # sin^2 / (1 + cos^2), both divided by cos^2
    return np.asarray(1 - powder.polarization * np.cos(2 * azimuth_rad) * sin_over_cos)


def position_px(
    powder: Powder, radius_px: NDArray[Any], azimuth_rad: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where on the detector a direction ends, as fractional (row, column) indices: pixel centres are whole numbers."""
    depth_px = powder.distance_m / powder.pixel_size_m
    lab = np.stack(
        [radius_px * np.sin(azimuth_rad), radius_px * np.cos(azimuth_rad), np.full_like(radius_px, depth_px)]
    )
    x1, x2, x3 = rotation(powder).T @ lab
    row = x1 * depth_px / x3 + powder.poni1_m / powder.pixel_size_m - 0.5
    column = x2 * depth_px / x3 + powder.poni2_m / powder.pixel_size_m - 0.5
    return row, column


def rotation(powder: Powder) -> NDArray[np.float64]:
    """The detector's rotation as pyFAI defines it: about axis 1, then axis 2, both left-handed. Shape (3, 3)."""
    (s1, s2), (c1, c2) = (f([powder.rot1_rad, powder.rot2_rad]) for f in (np.sin, np.cos))
    about_1 = np.array([[1, 0, 0], [0, c1, s1], [0, -s1, c1]])
    about_2 = np.array([[c2, 0, -s2], [0, 1, 0], [s2, 0, c2]])
    return np.asarray(about_2 @ about_1)


def pixel_mask(powder: Powder) -> NDArray[np.bool_]:
    """Gaps between modules and dead pixels, True = ignore. The same for every series: it belongs to the detector."""
    mask = np.random.default_rng(0).random(powder.shape) < powder.dead_fraction
    if powder.detector == "Eiger2CdTe_4M":
        for rows in EIGER_ROW_GAPS:
            mask[rows] = True
        for columns in EIGER_COLUMN_GAPS:
            mask[:, columns] = True
    return mask


def _silicon_reflections(min_spacing: float) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Lattice spacing in angstrom, multiplicity and |F|^2 of silicon's reflections, the widest spacing first.

    The diamond structure reflects where h, k, l are all odd, or all even with a sum divisible by 4: then twice as much.
    """
    index = np.arange(-int(SILICON_A / min_spacing), int(SILICON_A / min_spacing) + 1)
    hkl = np.stack(np.meshgrid(index, index, index)).reshape(3, -1)
    odd = (hkl % 2 == 1).all(0)
    even = (hkl % 2 == 0).all(0) & (hkl.sum(0) % 4 == 0)
    squares, multiplicity = np.unique((hkl[:, odd | even] ** 2).sum(0), return_counts=True)
    allowed = (squares > 0) & (squares < (SILICON_A / min_spacing) ** 2)
    squares, multiplicity = squares[allowed], multiplicity[allowed]
    s_sq = squares / (4 * SILICON_A**2)
    scattering_factor = sum(a * np.exp(-b * s_sq) for a, b in SILICON_GAUSSIANS)
    strength = np.where(squares % 2, 1, 2) * scattering_factor**2 * np.exp(-2 * SILICON_B_FACTOR * s_sq)
    return SILICON_A / np.sqrt(squares), multiplicity, strength
