"""A result file in; beside it, under its name, files for people and other programs out: .xye and .png."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ringwatch.extras import extra
from ringwatch.messages import ProfileKind
from ringwatch.publish.checked_hdf5 import CheckedGroup
from ringwatch.publish.disk import put_in_place, refuse_existing
from ringwatch.publish.provenance import wavelength_angstrom
from ringwatch.publish.result_file import ResultFileError, ResultFileExistsError, reading

Export = Literal["xye", "png"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A final profile of a result file; arrays of shape (bins,).

    Attributes
    ----------
    unit
        Of ``radial``, in pyFAI's names.
    wavelength_angstrom
        What the PONI says.
    """

    radial: Floats
    unit: str
    intensity: Floats
    sem: Floats
    count: Floats
    wavelength_angstrom: float | None

    @property
    def two_theta_deg(self) -> Floats:
        """Scattering angle of each bin in degrees.

        Raises
        ------
        ValueError
            It does not follow from the radial axis.
        """
        match self.unit:
            case "2th_deg":
                return self.radial
            case "2th_rad":
                return np.asarray(np.degrees(self.radial))
            case "q_A^-1" | "q_nm^-1" if self.wavelength_angstrom is not None:
                per_angstrom = 1.0 if self.unit == "q_A^-1" else 0.1
                sine = self.radial * per_angstrom * self.wavelength_angstrom / (4 * np.pi)
                return np.asarray(np.degrees(2 * np.arcsin(sine)))
        raise ValueError(f"no scattering angle follows from a radial axis in {self.unit}: use geometry.unit 2th_deg")


def require(kinds: Sequence[Export]) -> None:
    """Raise ConfigError where something is asked for that is not installed: before hours of measuring."""
    if "png" in kinds:
        extra("matplotlib", "plot", "a figure")


def write_exports(result: Path, kinds: Sequence[Export]) -> list[Path]:
    """Write what is asked for beside a complete result file; an existing file is never overwritten.

    Raises
    ------
    ConfigError
        A figure is asked for and matplotlib is not installed.
    ResultFileError
        The result cannot be read or says too little, or a file cannot be written.
    """
    return [_WRITERS[kind](result) for kind in kinds]


def write_xye(result: Path, kind: ProfileKind = "mean") -> Path:
    """Write two-theta in degrees, intensity and its standard error, as GSAS-II, TOPAS and FullProf read them.

    No header, which some of them stumble over. Bins without pixels, or without an error, are left out: a refinement
    would give them an infinite weight. Profiles other than the mean have their kind in the name. Raises as
    `write_exports` does.
    """
    pattern = read_pattern(result, kind)
    used = (pattern.count > 0) & (pattern.sem > 0)
    try:
        columns = np.column_stack([pattern.two_theta_deg, pattern.intensity, pattern.sem])[used]
    except ValueError as error:
        raise ResultFileError(result, str(error)) from error
    stem = result.stem if kind == "mean" else f"{result.stem}_{kind}"
    return _written(result.with_name(f"{stem}.xye"), lambda out: np.savetxt(out, columns, fmt=("%.7f", "%.9g", "%.4g")))


def write_png(result: Path) -> Path:
    """Draw the figure of a result; needs 'ringwatch[plot]'. Raises as `write_exports` does."""
    from ringwatch.publish.figure import draw  # noqa: PLC0415 - takes a second

    return _written(result.with_suffix(".png"), lambda out: draw(result, out))


def read_pattern(result: Path, kind: ProfileKind = "mean") -> Pattern:
    """The final profile of a kind: of the summed image, or of the union where no image was summed.

    Raises
    ------
    ResultFileError
        There is no such file or profile.
    """
    names = [f"profiles/{kind}_{source}" for source in ("accumulated", "union")]
    with reading(result) as entry:
        found = next((name for name in names if name in entry), None)
        if found is None:
            raise ResultFileError(result, f"holds no {kind} profile")
        return _pattern(entry, found)


def _pattern(entry: CheckedGroup, found: str) -> Pattern:
    radial = entry.array(f"{found}/radial", "<f8", (None,))
    columns = {name: entry.array(f"{found}/{name}", "<f8", radial.shape) for name in ("intensity", "sem", "count")}
    wavelength = wavelength_angstrom(entry.text("ringwatch/poni"))
    return Pattern(radial, entry.text("ringwatch/unit"), **columns, wavelength_angstrom=wavelength)


def _written(path: Path, write: Callable[[Path], None]) -> Path:
    part = path.with_name(f".{path.name}.part")
    try:
        refuse_existing(path)
        write(part)
        put_in_place(part, path)
    except FileExistsError as error:
        raise ResultFileExistsError(path, "exists already") from error
    except OSError as error:
        raise ResultFileError(path, f"cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return path


_WRITERS: Mapping[Export, Callable[[Path], Path]] = {"xye": write_xye, "png": write_png}
