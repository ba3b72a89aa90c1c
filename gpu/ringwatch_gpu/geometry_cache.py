"""Tables of a detector in, a file out, and back: so that a start takes a fraction of a second instead of many.

Files are never trusted: whatever is not exactly what was written is ignored, and the tables are built again.
"""

import io
import logging
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .geometry_pyfai import MAX_BINS, SECTORS, PixelTables, table_digest
from .splitting import METHODS, Method, Splitting

MAX_BYTES = 1 << 30
"""Of all files together; the oldest are removed first."""

_SCALARS = np.dtype(
    [
        ("shape", "<i8", (2,)),
        ("unit", "S16"),
        ("norm_quantum", "<f8"),
        ("norm_error", "<f8"),
        ("pixel_bins", "?"),
        ("wavelength_m", "<f8"),
        ("pixel_size_m", "<f8", (2,)),
        ("splitting", "S4"),
        ("digest", "S64"),
    ]
)
_ARRAYS = {"edges": "<f8", "radial": "<f8", "bin_table": "<u2", "norm_q": "<u4", "sector": "|u1"}
_SPLITTING = {"first_bin": "<u2", "start": "<u4", "share": "<f4"}
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError)

_log = logging.getLogger(__name__)


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/ringwatch``, by default ``~/.cache/ringwatch``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ringwatch"


def load(folder: Path, key: str) -> PixelTables | None:
    """The tables stored under ``key``; None where there are none, or none that can be believed."""
    path = _path(folder, key)
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("larger than any such file")
        with zipfile.ZipFile(path) as archive:
            scalars: Any = _member(archive, "scalars", _SCALARS)[()]
            arrays = {name: _member(archive, name, dtype) for name, dtype in _ARRAYS.items()}
            splitting = _read_splitting(archive, scalars["splitting"].decode("ascii"))
        tables = replace(_tables(scalars, arrays), splitting=splitting)
        _check(tables, scalars["digest"].decode("ascii"))
    except _DAMAGE as error:
        _log.warning("%s is damaged and will be replaced: %s", path, error)
        return None
    return tables


def store(folder: Path, key: str, tables: PixelTables) -> None:
    """Keep tables under ``key``. Where that is impossible a warning is logged: the next start takes longer."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(_path(folder, key), tables)
        _remove_oldest(folder)
    except OSError as error:
        _log.warning("the geometry cannot be kept in %s: %s", folder, error)


def _path(folder: Path, key: str) -> Path:
    return folder / f"geometry-{key}.npz"


def _write(path: Path, tables: PixelTables) -> None:
    """The whole file or none: readers never see half of it."""
    with NamedTemporaryFile(dir=path.parent, prefix="geometry-", suffix=".tmp", delete=False) as file:
        temporary = Path(file.name)
        try:
            np.savez(file, allow_pickle=False, scalars=_scalars(tables), **_arrays(tables))
        except OSError:
            temporary.unlink()
            raise
    temporary.replace(path)


def _arrays(tables: PixelTables) -> dict[str, NDArray[Any]]:
    split = {} if tables.splitting is None else {name: getattr(tables.splitting, name) for name in _SPLITTING}
    return {**{name: getattr(tables, name) for name in _ARRAYS}, **split}


def _scalars(tables: PixelTables) -> NDArray[np.void]:
    scalars = np.zeros((), _SCALARS)
    for name in ("shape", "unit", "norm_quantum", "norm_error", "pixel_bins", "pixel_size_m"):
        scalars[name] = getattr(tables, name)
    scalars["wavelength_m"] = np.nan if tables.wavelength_m is None else tables.wavelength_m
    scalars["splitting"] = "no" if tables.splitting is None else tables.splitting.method
    scalars["digest"] = table_digest(tables)
    return scalars


def _member(archive: zipfile.ZipFile, name: str, dtype: DTypeLike) -> NDArray[Any]:
    """One array, read only if it is uncompressed (so no larger than the file) and of the type expected."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"{name} is compressed or encrypted")
    content = archive.read(info)
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{name} is of another version")
    shape, _, found = np.lib.format.read_array_header_1_0(stream)
    if found != np.dtype(dtype):
        raise ValueError(f"{name} is {found}")
    return np.frombuffer(content, found, offset=stream.tell()).reshape(shape)


def _read_splitting(archive: zipfile.ZipFile, method: str) -> Splitting | None:
    if method == "no":
        return None
    known: dict[str, Method] = {known: known for known in METHODS}
    arrays = {name: _member(archive, name, dtype) for name, dtype in _SPLITTING.items()}
    return Splitting(known[method], **arrays)


def _tables(scalars: Any, arrays: dict[str, NDArray[Any]]) -> PixelTables:
    wavelength_m = float(scalars["wavelength_m"])
    edges, radial, bin_table, norm_q, sector = (arrays[name] for name in _ARRAYS)
    return PixelTables(
        shape=(int(scalars["shape"][0]), int(scalars["shape"][1])),
        unit=scalars["unit"].decode("ascii"),
        norm_quantum=float(scalars["norm_quantum"]),
        norm_error=float(scalars["norm_error"]),
        pixel_bins=bool(scalars["pixel_bins"]),
        wavelength_m=None if np.isnan(wavelength_m) else wavelength_m,
        pixel_size_m=(float(scalars["pixel_size_m"][0]), float(scalars["pixel_size_m"][1])),
        edges=edges,
        radial=radial,
        bin_table=bin_table,
        norm_q=norm_q,
        sector=sector,
    )


def _check(tables: PixelTables, digest: str) -> None:
    """Raise ValueError unless no kernel can stumble over the tables and their digest is the one stored."""
    pixels, bins = tables.shape[0] * tables.shape[1], tables.radial.size
    sizes = {"edges": bins + 1, "radial": bins, "bin_table": pixels, "norm_q": pixels, "sector": pixels}
    if any(getattr(tables, name).shape != (size,) for name, size in sizes.items()):
        raise ValueError("the arrays do not fit together")
    in_range = tables.bin_table.max() <= bins <= MAX_BINS and tables.sector.max() < SECTORS
    if not in_range or not tables.norm_q[tables.bin_table < bins].all():
        raise ValueError("numbers out of range")
    if tables.splitting is not None:
        _check_splitting(tables.splitting, tables)
    if table_digest(tables) != digest:
        raise ValueError("the digest is another one")


def _check_splitting(splitting: Splitting, tables: PixelTables) -> None:
    first_bin, start, share = splitting.first_bin, splitting.start, splitting.share
    pixels = tables.bin_table.size
    if first_bin.shape != (pixels,) or start.shape != (pixels + 1,) or share.shape != (start[-1],) or start[0]:
        raise ValueError("the arrays of the splitting do not fit together")
    if (start[1:] < start[:-1]).any() or (first_bin + splitting.length.astype(np.int64)).max() > tables.bins:
        raise ValueError("bins of the splitting out of range")
    if (splitting.length[tables.bin_table < tables.bins] == 0).any() or not ((share >= 0) & (share <= 1)).all():
        raise ValueError("shares of the splitting out of range")


def _remove_oldest(folder: Path) -> None:
    files = sorted(folder.glob("geometry-*"), key=lambda file: file.stat().st_mtime_ns)
    excess = sum(file.stat().st_size for file in files) - MAX_BYTES
    for file in files[:-1]:
        if excess <= 0:
            break
        excess -= file.stat().st_size
        file.unlink()
