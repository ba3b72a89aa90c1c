"""How exact the numbers are: ringwatch and pyFAI's engines against float64. Prints the tables of docs/accuracy.md.

`make accuracy`, or python benchmarks/accuracy.py [--data pil1m_ceo2 ...] [--all]. What is compared stands in the tables
below; a line in one of them is a row more in what is printed. Data sets that are not there are left out.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile
from ringwatch.stream.powder import TRUTH, TUTORIAL, Powder
from ringwatch.stream.simulator import DEFAULT_SEED, Simulator
from ringwatch_gpu import Geometry, Integrator, RingSums
from ringwatch_gpu.geometry_pyfai import Recipe, load_integrator
from ringwatch_gpu.noise import Noise
from ringwatch_gpu.reference import float_bincount
from ringwatch_gpu.spottiness import spottiness
from ringwatch_gpu.sums import RingProfile
from ringwatch_gpu.validity import Validity

RECORDED = Path(__file__).parents[2] / "shared" / "data"
MOST_FRAMES = 8
PROMISED = 1e-7
"""No number of ours is farther from float64."""
WELL_FILLED = 100
"""Largest differences are taken over bins of at least so many pixels: in smaller ones float32 rounds at 1e-6 itself."""

Array = NDArray[Any]


# ----------------------------------------------------------------------------------------------- what is compared


@dataclass(frozen=True)
class DataSet:
    """Frames of a detector, True = ignore in the mask, and their geometry."""

    poni: str
    frames: list[Array]
    mask: Array
    dummies: tuple[int, ...] | None = None


def recorded(name: str) -> DataSet | None:
    """The first frames of a recorded file beside the repository."""
    path = RECORDED / f"{name}.h5"
    if not path.is_file():
        return None
    with FramesFile(path) as file:
        frames = []
        for frame in islice(file.frames(), MOST_FRAMES):
            frames.append(np.empty(file.shape, file.dtype))
            decode_into(frame, frames[-1])
        mask = np.zeros(file.shape, np.bool_) if file.pixel_mask is None else file.pixel_mask
    return DataSet(path.with_suffix(".poni").read_text(), frames, mask)


def simulated(powder: Powder) -> DataSet:
    """The first frames of the simulator."""
    simulator = Simulator(powder, DEFAULT_SEED)
    frames = [simulator.frame() for _ in range(MOST_FRAMES)]
    return DataSet(powder.poni(), frames, simulator.pixel_mask, (powder.dummy,))


DATA: Mapping[str, Callable[[], DataSet | None]] = {
    "tutorial": partial(simulated, TUTORIAL),
    "truth": partial(simulated, TRUTH),
    "id11_dac": partial(recorded, "id11_dac"),
    "pil1m_ceo2": partial(recorded, "pil1m_ceo2"),
    "pil1m_fe3o4_map": partial(recorded, "pil1m_fe3o4_map"),
    "pil2m_ceo2_chess": partial(recorded, "pil2m_ceo2_chess"),
    "ge41rt_ceo2": partial(recorded, "ge41rt_ceo2"),
}


def waves(shape: tuple[int, int]) -> Array:
    """A flat field that varies within the rings."""
    y, x = np.indices(shape) / np.reshape(shape, (2, 1, 1))
    return np.asarray(1 + 0.1 * np.cos(9 * x) * np.sin(7 * y), np.float32)


def slope(shape: tuple[int, int]) -> Array:
    """An absorption that varies within the rings more than any sample's."""
    y, x = np.indices(shape) / np.reshape(shape, (2, 1, 1))
    return np.asarray(np.exp(-0.8 * np.hypot(y - 0.3, x - 0.6)), np.float32)


def offset(shape: tuple[int, int]) -> Array:
    """A dark of a few counts, in whole eighths: what is rounded before anything is summed is not compared."""
    y, x = np.indices(shape)
    return np.asarray(1.5 + (x % 5 + y % 7) / 8, np.float32)


Made = Callable[[tuple[int, int]], Array]


@dataclass(frozen=True)
class Factors:
    """Of the normalization, and what is taken off before."""

    solid_angle: bool = False
    polarization: float | None = None
    flat: Made | None = None
    absorption: Made | None = None
    dark: Made | None = None

    def maps(self, shape: tuple[int, int]) -> dict[str, Array]:
        """Those that are images."""
        made = {"flat": self.flat, "absorption": self.absorption, "dark": self.dark}
        return {name: make(shape) for name, make in made.items() if make}


USUAL = "solid angle, polarization"
FACTORS = {
    "none": Factors(),
    "solid angle": Factors(solid_angle=True),
    "polarization": Factors(polarization=0.99),
    "flat": Factors(flat=waves),
    "absorption": Factors(absorption=slope),
    "dark": Factors(dark=offset),
    USUAL: Factors(True, 0.99),
    "all": Factors(True, 0.99, waves, slope, offset),
}

Splitting = Literal["no", "bbox", "full"]

SPLITTINGS: tuple[Splitting, ...] = ("no", "bbox", "full")
"""pyFAI's names."""


@dataclass(frozen=True)
class Model:
    """An error model: our profile by it, and whether the variance is that of counts."""

    profile: Callable[[RingSums, Geometry], RingProfile]
    of_counts: bool


def by_counts(sums: RingSums, geometry: Geometry) -> RingProfile:
    """The mean with the variance of its counts."""
    norm = sums.profile.normalization / sums.norm_quantum
    return sums.profile.with_variance(Noise.of_parts(geometry).variance(sums.noise_signal, norm))


MODELS = {
    "azimuthal": Model(lambda sums, _: sums.profile, of_counts=False),
    "poisson": Model(by_counts, of_counts=True),
}
"""Keys are pyFAI's names."""

OURS = "ringwatch"
ENGINES = {f"pyFAI {name}": name for name in ("python", "cython", "opencl")}
QUANTITIES = {
    "signal": "sum_signal",
    "normalization": "sum_normalization",
    "norm_sq": "sum_normalization2",
    "count": "count",
    "intensity": "intensity",
    "variance": "sum_variance",
    "std": "std",
    "sem": "sem",
}
"""Our names and pyFAI's."""

Numbers = Mapping[str, Array]
"""Of a profile: each of `QUANTITIES`, shape (bins,), and the two spottinesses."""

COLUMNS = (*QUANTITIES, "spottiness", "weighted")


# ------------------------------------------------------------------------------------------------------ the programs


class Subject:
    """The frames of a data set with one choice of corrections and splitting, reduced by every program.

    Parameters
    ----------
    integrator
        PyFAI's, of the same PONI: it keeps what it has prepared from one subject to the next.
    """

    def __init__(self, data: DataSet, integrator: Any, factors: Factors, splitting: Splitting) -> None:
        self._data, self._pyfai, self._factors, self._splitting = data, integrator, factors, splitting
        shape = data.frames[0].shape
        self._maps = factors.maps(shape)
        rings = Geometry.from_poni(
            data.poni,
            shape,
            solid_angle=factors.solid_angle,
            polarization=factors.polarization,
            splitting=splitting,
        )
        corrections = {name: image for name, image in self._maps.items() if name != "dark"}
        self.rings = rings.masked(data.mask).corrected(**corrections)
        if factors.dark:
            self.rings = self.rings.signed(dark=self._maps["dark"])
        self._ours = Integrator(self.rings, dummies=data.dummies, tells_noise=True)

    def ours(self, frames: list[Array], model: str) -> Numbers:
        """What ringwatch makes of the frames together."""
        return numbers(MODELS[model].profile(self._ours.integrate(frames), self.rings))

    def pyfai(self, frames: list[Array], model: str, engine: str) -> Numbers | None:
        """What pyFAI makes of them, united one after the other; None where the engine does not run."""
        if not runs(engine, self._splitting):
            return None
        united = reduce(lambda a, b: a.union(b), (self._integrated(frame, model, engine) for frame in frames))
        found = {ours: np.asarray(getattr(united, theirs), np.float64) for ours, theirs in QUANTITIES.items()}
        if model == "azimuthal":
            found["spottiness"] = np.array(united.calc_spottiness())
            found["weighted"] = np.array(united.calc_spottiness(weighted=True))
        return found

    def float64(self, frames: list[Array], model: str, least: int) -> Numbers:
        """The textbook, nothing rounded: means over all pixels of all frames first, then squared deviations.

        Parameters
        ----------
        least
            What the variance of the counts of a pixel is taken for where there is none: pyFAI takes 1.
        """
        parts, bins = list(self._contributions(frames)), self.rings.bins

        def total(of: Callable[[Array, Array, Array, Array, Array], Array]) -> Array:
            return np.asarray(sum(float_bincount(part[0], of(*part), bins) for part in parts))

        signal, norm = total(lambda _, c, raw, s, g: c * s), total(lambda _, c, raw, s, g: c * g)
        mean = signal / np.where(norm > 0, norm, 1)
        if MODELS[model].of_counts:
            variance = total(lambda _, c, raw, s, g: c * c * np.maximum(raw, least))
        else:
            variance = total(lambda b, c, raw, s, g: (c * (s - g * mean[b])) ** 2)
        norm_sq, count = total(lambda _, c, raw, s, g: (c * g) ** 2), total(lambda _, c, raw, s, g: c)
        return numbers(RingProfile.of(signal, variance, norm, norm_sq, count))

    def _contributions(self, frames: list[Array]) -> Iterator[tuple[Array, Array, Array, Array, Array]]:
        """Bin, share, counts, signal and norm of what valid pixels give to bins, frame by frame."""
        bin_of, pixel, share = self._matrix
        norm, dark = self._norm, np.ravel(self._maps.get("dark", np.zeros(self.rings.shape)))
        for frame in frames:
            ok = ~self._invalid(frame).ravel()[pixel]
            where = pixel[ok]
            raw = frame.ravel()[where].astype(np.float64)
            yield bin_of[ok], share[ok], raw, raw - dark[where], norm[where]

    @cached_property
    def _matrix(self) -> tuple[Array, Array, Array]:
        """PyFAI's: bin, pixel and share of each of its coefficients."""
        rings = self.rings
        span = (float(rings.edges[0]), float(rings.edges[-1]))
        share, pixel, first = self._pyfai.setup_sparse_integrator(
            rings.shape, rings.bins, mask=None, pos0_range=span, unit=rings.unit, split=self._splitting, algo="CSR"
        ).lut
        return np.repeat(np.arange(rings.bins), np.diff(first)), pixel, share.astype(np.float64)

    @cached_property
    def _norm(self) -> Array:
        """Normalization of each pixel in float64, from its angles."""
        shape, factors = self.rings.shape, self._factors
        norm = np.ones(shape)
        if factors.solid_angle:
            norm *= np.fromfunction(self._pyfai.cos_incidence, shape, dtype=np.float64) ** 3
        if factors.polarization is not None:
            cos_2th = np.cos(self._pyfai.center_array(shape, unit="2th_rad"))
            cos_2chi = np.cos(2 * self._pyfai.center_array(shape, unit="chi_rad"))
            norm *= 0.5 * (1 + cos_2th**2 - factors.polarization * cos_2chi * (1 - cos_2th**2))
        for name, image in self._maps.items():
            norm *= 1.0 if name == "dark" else image
        return np.asarray(norm.ravel())

    def _invalid(self, frame: Array) -> Array:
        return self.rings.mask | Validity.of(frame.dtype, self._data.dummies).invalid(frame)

    def _integrated(self, frame: Array, model: str, engine: str) -> Any:
        invalid, rings = self._invalid(frame), self.rings
        return self._pyfai.integrate1d_ng(
            np.where(invalid, 0, frame), mask=invalid, dummy=-1, method=(self._splitting, "csr", engine),
            npt=rings.bins, unit=rings.unit, radial_range=(rings.edges[0], rings.edges[-1]), error_model=model,
            correctSolidAngle=self._factors.solid_angle, polarization_factor=self._factors.polarization, **self._maps,
        )  # fmt: skip


def numbers(profile: RingProfile) -> Numbers:
    """A profile as the tables name it."""
    values = spottiness(profile, np.ones(profile.count.size))
    found = {name: getattr(profile, name) for name in QUANTITIES}
    return found | {"spottiness": values.plain, "weighted": values.weighted}


def runs(engine: str, splitting: str) -> bool:
    """Whether pyFAI has this engine here."""
    from pyFAI.method_registry import IntegrationMethod  # noqa: PLC0415 - takes seconds

    return bool(IntegrationMethod.select_method(1, splitting, "csr", engine, degradable=False))


# --------------------------------------------------------------------------------------------------------- the tables


@dataclass(frozen=True)
class Row:
    """The largest relative differences of one program from float64: of each column, where it has the number."""

    data: str
    factors: str
    splitting: str
    model: str
    frames: int
    program: str
    largest: Mapping[str, float]


def differences(found: Numbers, truth: Numbers) -> dict[str, float]:
    """Largest relative differences over the well-filled bins."""
    many = truth["count"] >= WELL_FILLED
    assert many.any()
    return {name: relative(found[name], truth[name], many) for name in COLUMNS if name in found}


def relative(found: Array, truth: Array, many: Array) -> float:
    """Largest |found - truth| / |truth|."""
    if truth.ndim:
        found, truth = found[many], truth[many]
    scale = np.abs(truth)
    return float(np.max(np.abs(found - truth) / np.where(scale > 0, scale, 1), initial=0))


def measure(name: str, data: DataSet, splittings: Iterable[Splitting] = SPLITTINGS) -> Iterator[Row]:
    """All rows of a data set: its first frame with each choice of corrections, and its union with the usual ones."""
    integrator = load_integrator(Recipe(data.poni, None, "2th_deg", 1, None, True, None), name)
    for splitting in splittings:
        for factors, choice in FACTORS.items():
            subject = Subject(data, integrator, choice, splitting)
            counts = {1, len(data.frames)} if factors == USUAL else {1}
            for model in MODELS:
                for n_frames in sorted(counts):
                    for program, largest in compare(subject, data.frames[:n_frames], model):
                        yield Row(name, factors, splitting, model, n_frames, program, largest)


def compare(subject: Subject, frames: list[Array], model: str) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Each program that can, and its differences."""
    yield OURS, differences(subject.ours(frames, model), subject.float64(frames, model, least=0))
    truth = subject.float64(frames, model, least=1)
    for program, engine in ENGINES.items():
        theirs = subject.pyfai(frames, model, engine)
        if theirs is not None:
            yield program, differences(theirs, truth)


def show(title: str, rows: Iterable[Row], by: str) -> None:
    """One table in Markdown: the worst of the rows that share ``by`` and the program, in parts per million."""
    worst: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        cells = worst.setdefault((getattr(row, by), row.program), {})
        for column, value in row.largest.items():
            cells[column] = max(value, cells.get(column, 0.0))
    if not worst:
        return
    columns = [column for column in COLUMNS if any(column in cells for cells in worst.values())]
    print(f"\n### {title}\n\n| {by} | program | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 2)}")
    for (name, program), cells in worst.items():
        print(f"| {name} | {program} | {' | '.join(ppm(cells.get(column)) for column in columns)} |")


def ppm(value: float | None) -> str:
    """Parts per million with two digits."""
    if value is None:
        return ""
    return "0" if value == 0 else f"{1e6 * value:.2g}" if value < 1e-4 else f"{1e6 * value:.0f}"


def main() -> int:
    """Measure and print; 1 where ours are worse than promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", choices=DATA, default=list(DATA), help="by default all")
    parser.add_argument("--all", action="store_true", help="a table for each data set as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # compilers talk
    rows: list[Row] = []
    for name in options.data:
        data = DATA[name]()
        print(f"{name}: {'not there, left out' if data is None else 'measuring ...'}", file=sys.stderr, flush=True)
        if data is not None:
            rows += measure(name, data)
    for splitting in SPLITTINGS:
        for model in MODELS:
            these = [row for row in rows if (row.splitting, row.model) == (splitting, model)]
            single = [row for row in these if row.frames == 1]
            heading = f"splitting {splitting}, {model} errors"
            show(f"One frame, {heading}: each correction, worst data set", single, "factors")
            show(f"One frame, {heading}: each data set, worst correction", single, "data")
            united = [row for row in these if row.frames > 1]
            show(f"Union of up to {MOST_FRAMES} frames, {heading}: {USUAL}", united, "data")
            for name in options.data if options.all else ():
                show(f"{name}, one frame, {heading}", [row for row in single if row.data == name], "factors")
    worst = max(value for row in rows if row.program == OURS for value in row.largest.values())
    print(
        f"\n{OURS}: within {ppm(worst)} parts per million of float64 in {len(rows)} rows; {ppm(PROMISED)} is promised."
    )
    return int(worst > PROMISED)


if __name__ == "__main__":
    sys.exit(main())
