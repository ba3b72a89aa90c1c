"""One accumulation in, one HDF5 file out, and back again: `write_result` and `read_result`.

The file holds the final profiles for people and the exact sums for `ringwatch merge`. What is read is not trusted:
types, shapes and sizes are checked before anything is allocated.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import RingwatchError
from ringwatch.messages import Fates, Origin, Profile, RingTable, Scalar, SeriesResult
from ringwatch.publish import nexus
from ringwatch.publish.checked_hdf5 import CheckedGroup
from ringwatch.publish.disk import file_image, put_in_place, refuse_existing, reserve
from ringwatch.publish.nexus import HDF5_ERRORS, SUM_ROWS, Columns
from ringwatch.publish.provenance import clean_text, iso_time

SCHEMA = 1
FATES = tuple(field.name for field in fields(Fates))
IMAGE_CHUNK_ROWS = 64


class ResultFileError(RingwatchError):
    """A result file cannot be written, or what is read is no result file."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = " ".join(problem.split())
        super().__init__(f"{path}: {self.problem}")


class ResultFileExistsError(ResultFileError):
    """The file is there already, and nothing is ever overwritten."""


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What a result file says: the fields of `SeriesResult`, the configuration and the frames' rows.

    Attributes
    ----------
    config
        The configuration, a JSON object as text.
    frames
        The columns of ``/entry/frames`` (`nexus.FRAME_COLUMNS`), all of one length.
    """

    origin: Origin
    time_ns: int
    reason: str
    header: Mapping[str, Scalar]
    n_frames: int
    radial: NDArray[np.float64]
    edges: NDArray[np.float64]
    unit: str
    exact: bool
    sums: NDArray[np.uint64] | None
    norm_quantum: float
    signal_quantum: float
    image_sum: NDArray[np.int64] | None
    image_lost: NDArray[np.uint32] | None
    fates: Fates
    missing: tuple[tuple[int, int], ...]
    poni: str
    versions: Mapping[str, str]
    window: str
    monitor_reference: float | None
    exposure: int | None
    image_lost_exposure: NDArray[np.uint64] | None
    parts: tuple[str, ...]
    config: str
    frames: Columns

    @property
    def digest(self) -> str:
        """What must be equal for two results to be merged."""
        return self.origin.digest


# ---------------------------------------------------------------------------------------------------------- write


def write_result(
    path: Path,
    result: SeriesResult | StoredResult,
    *,
    config: str,
    profiles: Iterable[Profile],
    frames: Iterable[Columns] = (),
    snapshots: Iterable[Columns] = (),
    decisions: Iterable[Columns] = (),
    rings: RingTable | None = None,
    started_ns: int | None = None,
    frame_profiles: Mapping[str, str] | None = None,
    profiles_in: str = "",
) -> None:
    """Write the complete file of one accumulation: it appears under its name only when all of it is on the disk.

    Parameters
    ----------
    path
        Name of the file; an existing one is never overwritten.
    result
        The sums and all about them.
    config
        The configuration, a JSON object as text.
    profiles
        The final profiles, one of a kind and source.
    frames, snapshots, decisions
        Rows of these tables, in parts (`nexus.frame_columns`, `nexus.snapshot_columns`, `nexus.decision_columns`).
    rings
        What is known of each ring at the end.
    started_ns
        Wall clock of the series' start, nanoseconds since 1970.
    frame_profiles
        Attributes of the profiles of single frames, where ``frames`` have some; by default their kind is mean.
    profiles_in
        Name of the file that has the profiles of single frames, where ``frames`` lack them.

    Raises
    ------
    ResultFileExistsError
        There is such a file.
    ResultFileError
        It cannot be written: disk full, no permission.
    """
    part = path.with_name(f"{path.name}.part")

    def begin(file: h5py.File) -> None:
        entry = nexus.create_entry(file, result.origin, result.time_ns, config, started_ns)
        nexus.create_data(entry, result.radial, result.edges, result.unit)
        _write_profiles(entry, list(profiles))
        if rings is not None:
            nexus.write_rings(entry, rings)
        nexus.add_instrument(entry, result.poni, config)
        _write_sums(entry, result)

    try:
        refuse_existing(path)
        part.write_bytes(file_image(begin))
        with part.open("r+b", buffering=0) as raw, h5py.File(raw, "r+") as file:
            _write_rows(raw, file["entry/frames"], frames)
            if "intensity" in file["entry/frames"]:
                file["entry/frames/intensity"].attrs.update(frame_profiles or {"kind": "mean"})
            if profiles_in:
                file["entry/frames"].attrs["profiles_in"] = profiles_in
            _write_rows(raw, file["entry/snapshots"], snapshots)
            _write_rows(raw, file["entry/decisions"], decisions)
            _write_image(raw, file["entry"], result)
        put_in_place(part, path)
    except FileExistsError as error:
        raise ResultFileExistsError(path, "exists already") from error
    except HDF5_ERRORS as error:
        raise ResultFileError(path, f"cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # the same that kept it from being written
            part.unlink(missing_ok=True)


def _reserve(raw: FileIO, more_bytes: int) -> None:
    """Make sure that so much more can be written."""
    reserve(raw.fileno(), os.fstat(raw.fileno()).st_size + more_bytes)


def _write_profiles(entry: h5py.Group, profiles: list[Profile]) -> None:
    for profile in profiles:
        group = nexus.create_profile(entry, nexus.profile_name(profile), profile.radial.size)
        group.attrs.update({"window": profile.window, "error_model": profile.error_model})
        if profile.warning is not None:
            group.attrs["warning"] = profile.warning
        nexus.put_profile(entry, profile)
    nexus.put_data(entry, profiles)


def _write_rows(raw: FileIO, table: h5py.Group, parts: Iterable[Columns]) -> None:
    for rows in parts:
        _reserve(raw, 2 * sum(column.nbytes for column in rows.values()))
        nexus.append(table, rows)


def _write_image(raw: FileIO, entry: h5py.Group, result: SeriesResult | StoredResult) -> None:
    if result.image_sum is None or result.image_lost is None:
        return
    planes: dict[str, NDArray[Any]] = {"sum": result.image_sum, "lost": result.image_lost}
    if result.image_lost_exposure is not None:
        planes["lost_exposure"] = result.image_lost_exposure
    _reserve(raw, 2 * sum(plane.nbytes for plane in planes.values()))
    group = nexus.add_plotted(entry, "image", "sum")
    entry["plots/image"].attrs["interpretation"] = "image"
    chunks = (min(IMAGE_CHUNK_ROWS, result.image_sum.shape[0]), result.image_sum.shape[1])
    codec = hdf5plugin.Bitshuffle(cname="lz4")
    for name, plane in planes.items():
        group.create_dataset(name, data=plane, chunks=chunks, **codec)
    group["sum"].attrs["quantum"] = result.signal_quantum


def _write_sums(entry: h5py.Group, result: SeriesResult | StoredResult) -> None:
    """What `read_result` reads: everything that merging needs, nothing derived."""
    entry["end_time"] = iso_time(result.time_ns)
    entry["monitor_applied"] = result.monitor_reference is not None
    group = nexus.add_group(entry, "ringwatch", "NXcollection")
    if result.sums is not None:
        group["sums"] = result.sums
        words = ("high", "low") if result.sums.shape[2] == 2 else ("high", "middle", "low")
        group["sums"].attrs.update({"rows": SUM_ROWS[: len(result.sums)], "words": words})
    if result.monitor_reference is not None and result.exposure is not None:
        group["monitor_reference"], group["exposure"] = result.monitor_reference, np.uint64(result.exposure)
    for name in ("radial", "edges", "n_frames", "time_ns", "norm_quantum", "signal_quantum", "exact"):
        group[name] = getattr(result, name)
    group["parts"] = "\n".join(map(clean_text, result.parts))
    for name in ("unit", "reason", "poni", "window"):
        group[name] = clean_text(getattr(result, name))
    for name, value in asdict(result.origin).items():
        group[name] = clean_text(value) if isinstance(value, str) else value
    for name, tree in (("header", result.header), ("versions", result.versions), ("fates", fates_tree(result.fates))):
        group[name] = json.dumps(dict(tree))
    group["missing"] = np.array(result.missing, np.int64).reshape(-1, 2)
    group["config"] = entry["reduction/input/config"]
    group["schema"] = SCHEMA


def fates_tree(fates: Fates) -> dict[str, Any]:
    """Counters as they are stored."""
    return {name: getattr(fates, name) for name in FATES}


# ----------------------------------------------------------------------------------------------------------- read


def read_result(path: Path) -> StoredResult:
    """Read what `write_result` wrote.

    Raises
    ------
    ResultFileError
        No such file, no HDF5, or something in it is missing or has a wrong type, shape or size.
    """
    with reading(path) as entry:
        return stored_result(entry)


@contextmanager
def reading(path: Path) -> Iterator[CheckedGroup]:
    """The entry of a result file, whose errors leave as `ResultFileError`."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield CheckedGroup(file, "/entry")
    except FileNotFoundError as error:
        raise ResultFileError(path, "no such file") from error
    except (*HDF5_ERRORS, TypeError, MemoryError) as error:
        raise ResultFileError(path, f"is no result file, or a damaged one: {error}") from error


def stored_result(entry: CheckedGroup) -> StoredResult:
    """The result in an open file; raises ValueError."""
    if entry.number("ringwatch/schema", "<i8") != SCHEMA:
        raise ValueError(f"/entry/ringwatch/schema is not {SCHEMA}: another version of ringwatch wrote it")
    radial = entry.array("ringwatch/radial", "<f8", (None,))
    bins, is_weighed = radial.size, "ringwatch/monitor_reference" in entry
    image_sum, image_lost, image_lost_exposure = _read_image(entry, is_weighed)
    window = entry.text("ringwatch/window")
    return StoredResult(
        origin=_read_origin(entry),
        time_ns=entry.number("ringwatch/time_ns", "<i8"),
        reason=entry.text("ringwatch/reason"),
        header=entry.tree("ringwatch/header"),
        n_frames=entry.count("ringwatch/n_frames"),
        radial=radial,
        edges=entry.array("ringwatch/edges", "<f8", (bins + 1,)),
        unit=entry.text("ringwatch/unit"),
        exact=entry.number("ringwatch/exact", "?"),
        sums=None if window == "none" else _read_sums(entry, bins, is_weighed),
        norm_quantum=entry.number("ringwatch/norm_quantum", "<f8"),
        signal_quantum=entry.number("ringwatch/signal_quantum", "<f8"),
        image_sum=image_sum,
        image_lost=image_lost,
        fates=fates_of(entry.tree("ringwatch/fates")),
        missing=tuple((int(a), int(b)) for a, b in entry.array("ringwatch/missing", "<i8", (None, 2))),
        poni=entry.text("ringwatch/poni"),
        versions=entry.tree("ringwatch/versions"),
        window=window,
        monitor_reference=entry.number("ringwatch/monitor_reference", "<f8") if is_weighed else None,
        exposure=entry.number("ringwatch/exposure", "<u8") if is_weighed else None,
        image_lost_exposure=image_lost_exposure,
        parts=tuple(entry.text("ringwatch/parts").splitlines()),
        config=json.dumps(entry.tree("ringwatch/config")),
        frames=_read_frames(entry),
    )


def _read_origin(entry: CheckedGroup) -> Origin:
    return Origin(
        series=entry.number("ringwatch/series", "<i8"),
        unique_id=entry.text("ringwatch/unique_id"),
        sample=entry.text("ringwatch/sample"),
        generation=entry.count("ringwatch/generation"),
        digest=entry.text("ringwatch/digest"),
        accumulation=entry.text("ringwatch/accumulation"),
    )


def _read_sums(entry: CheckedGroup, bins: int, is_weighed: bool) -> NDArray[np.uint64]:
    """Six rows; split pixels always have three words, and maybe the row of their noise."""
    is_exact, plain = entry.number("ringwatch/exact", "?"), len(SUM_ROWS) - 1
    shape = (plain if is_exact else None, bins, 2 if is_exact and not is_weighed else 3)
    sums: NDArray[np.uint64] = entry.array("ringwatch/sums", "<u8", shape)
    if len(sums) not in (plain, len(SUM_ROWS)):
        raise ValueError(f"/entry/ringwatch/sums has {len(sums)} rows, not {plain} or {len(SUM_ROWS)}")
    return sums


def _read_image(
    entry: CheckedGroup, is_weighed: bool
) -> tuple[NDArray[np.int64] | None, NDArray[np.uint32] | None, NDArray[np.uint64] | None]:
    if "image" not in entry:
        return None, None, None
    image_sum = entry.array("image/sum", "<i8", (None, None))
    image_lost = entry.array("image/lost", "<u4", image_sum.shape)
    return image_sum, image_lost, entry.array("image/lost_exposure", "<u8", image_sum.shape) if is_weighed else None


def _read_frames(entry: CheckedGroup) -> Columns:
    rows = entry.array("frames/frame", "<i8", (None,)).size
    return {name: entry.array(f"frames/{name}", dtype, (rows,)) for name, dtype in nexus.FRAME_COLUMNS.items()}


def fates_of(tree: dict[str, Any]) -> Fates:
    """The counters that `fates_tree` made; raises ValueError."""
    fates = Fates()
    for name in FATES:
        value = tree.get(name)
        counts = value.values() if isinstance(value, dict) else (value,)
        if isinstance(value, dict) != isinstance(getattr(fates, name), Counter) or not all(map(_is_count, counts)):
            raise ValueError(f"fates: {name} is {value!r}")
        setattr(fates, name, Counter(value) if isinstance(value, dict) else value)
    return fates


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
