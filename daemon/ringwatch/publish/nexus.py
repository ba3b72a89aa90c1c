"""Messages in, NeXus groups out: the names and shapes that the live file and the final file have in common.

The conventions are those of NXazint1d (application definition of NeXus) and of the plot that `silx view` and h5web
open by themselves (attribute ``default`` on the root and on the entry). docs/files.md describes every group.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from ringwatch import __version__
from ringwatch.messages import Decision, FrameRows, Origin, Profile, RingTable, Scalar, Snapshot, Spottiness
from ringwatch.publish import flat, payload
from ringwatch.publish.provenance import (
    clean_text,
    corrections,
    instrument_and_source,
    iso_time,
    wavelength_angstrom,
)

HDF5_ERRORS = (OSError, RuntimeError, ValueError, KeyError)
"""What h5py raises when HDF5 fails, depending on what failed first inside."""

Columns = Mapping[str, NDArray[Any]]
"""Part of a table: arrays of one length by the name of their column."""

SENTENCE_BYTES = 512
_SENTENCE = h5py.string_dtype("utf-8", SENTENCE_BYTES)
_CODE = h5py.string_dtype("ascii", 24)
"""Texts are of fixed length: under SWMR nothing else can be appended."""

FRAME_COLUMNS: Mapping[str, str] = {
    "series": "<i8",
    "frame": "<i8",
    "spottiness": "<f8",
    "spottiness_weighted": "<f8",
    "spottiness_rings": "<f8",
    "total_signal": "<f8",
    "masked_pixels": "<i8",
    "monitor": "<f8",
}
SNAPSHOT_COLUMNS: Mapping[str, Any] = {
    "n_frames": "<i8",
    "time_ns": "<i8",
    "union_spottiness": "<f8",
    "union_spottiness_weighted": "<f8",
    "union_spottiness_rings": "<f8",
    "accumulated_n_frames": "<i8",
    "accumulated_spottiness": "<f8",
    "accumulated_spottiness_weighted": "<f8",
    "accumulated_spottiness_rings": "<f8",
    "averaged_spottiness": "<f8",
    "averaged_spottiness_weighted": "<f8",
    **{name: _CODE if name.endswith("_bound") else "<f8" for name in flat.statistics(None)},
    "statistics_n_frames": "<i8",
    **dict.fromkeys((*payload.FATES, "missing"), "<i8"),
    **dict.fromkeys(("detector_dropped", "frames_expected"), "<f8"),
}
DECISION_COLUMNS: Mapping[str, Any] = {
    "n_frames": "<i8",
    "time_ns": "<i8",
    **dict.fromkeys(flat.decision(None), "<f8"),
    **dict.fromkeys(("metric", "action", "reason_code", "forecast_settles_at_bound", "forecast_limit"), _CODE),
    "armed": "?",
    "sentence": _SENTENCE,
}
FramesStored = Literal["profiles", "sums", "none"]
"""What of each frame is stored besides its row: intensity and sem, or its exact sums."""
FRAME_PROFILE_COLUMNS: Mapping[FramesStored, Mapping[str, str]] = {
    "profiles": {"intensity": "<f4", "sem": "<f4"},
    "sums": {"sums": "<u8"},
    "none": {},
}
PROFILE_CHUNK_BYTES = 1 << 17
TABLES = {"frames": (FRAME_COLUMNS, 1024), "snapshots": (SNAPSHOT_COLUMNS, 256), "decisions": (DECISION_COLUMNS, 64)}
"""Columns of each table, and how many rows make a chunk."""

PROFILE_COLUMNS = ("radial", "intensity", "std", "sem", "signal", "variance", "normalization", "norm_sq", "count")
PROFILE_GROUPS = (
    "mean_union",
    "mean_accumulated",
    "sigma_clip_accumulated",
    "quantile_accumulated",
    "median_clip_accumulated",
)

RADIAL_AXES: Mapping[str, tuple[str, str]] = {
    "2th_deg": ("2theta", "degrees"),
    "2th_rad": ("2theta", "rad"),
    "q_A^-1": ("q", "1/angstrom"),
    "q_nm^-1": ("q", "1/nm"),
    "r_mm": ("radius", "mm"),
}
"""pyFAI's name of a radial unit: name of the axis and unit in NeXus."""

HC_KEV_ANGSTROM = 12.398419843320026
BLOCK_ROWS = 1 << 16
BLOCK_BYTES = 1 << 24
SUM_ROWS = ("signal", "signal_sq", "norm_signal", "norm", "norm_sq", "count", "noise_signal")
"""The last one only of split pixels whose noise is told."""
SPOTTINESS_REFERENCE = "Spottiness: Ingham (2014), J. Appl. Cryst. 47, 166, doi:10.1107/S1600576713029713"


# ------------------------------------------------------------------------------------------------------ the entry


def create_entry(
    file: h5py.File, origin: Origin, time_ns: int, config: str, started_ns: int | None = None
) -> h5py.Group:
    """Everything that is known before the first frame, but the axes; tables have no rows yet.

    Parameters
    ----------
    file
        An empty file.
    origin
        Which accumulation this is.
    time_ns, started_ns
        Wall clock of the writing and of the series' start, nanoseconds since 1970.
    config
        The configuration, a JSON object as text; tells which corrections are applied.
    """
    file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": f"ringwatch {__version__}"})
    entry = add_group(file, "entry", "NXentry", default="data")
    entry["definition"] = "NXazint1d"
    entry["title"] = clean_text(f"{origin.sample} series {origin.series}".strip())
    if started_ns is not None:
        entry["start_time"] = iso_time(started_ns)
    for name, value in corrections(config).items():
        entry[name] = value
    add_group(entry, "sample", "NXsample")["name"] = clean_text(origin.sample)
    _create_reduction(entry, time_ns, config)
    add_group(entry, "plots", "NXcollection")
    _create_tables(entry)
    add_group(entry, "profiles", "NXcollection")
    return entry


def create_data(entry: h5py.Group, radial: NDArray[np.float64], edges: NDArray[np.float64], unit: str) -> None:
    """The default plot: one pattern, NaN until `put_data`. Shape (1, bins) because NXazint1d asks for it."""
    data = add_group(entry, "data", "NXdata", signal="I", axes=[".", "radial_axis"], interpretation="spectrum")
    axis, axis_unit = RADIAL_AXES.get(unit, (unit, unit))
    _add_array(data, "radial_axis", radial, long_name=axis, units=axis_unit)
    _add_array(data, "radial_axis_edges", edges, long_name=f"{axis} bin edges", units=axis_unit)
    blank = np.full((1, radial.size), np.nan)
    _add_array(data, "I", blank, long_name="intensity", units="arbitrary units")
    _add_array(data, "I_errors", blank, long_name="estimated intensity error", units="arbitrary units")
    norm_name = "effective number of pixels contributing to the corresponding bin"
    _add_array(data, "norm", blank[0], long_name=norm_name, units="arbitrary units")


def add_group(parent: h5py.Group, name: str, nx_class: str, **attributes: object) -> h5py.Group:
    """Make a group of a NeXus class."""
    group = parent.create_group(name)
    group.attrs.update({"NX_class": nx_class, **attributes})
    return group


def add_plotted(
    entry: h5py.Group, name: str, signal: str, axes: Sequence[str] = (), more: Sequence[str] = ()
) -> h5py.Group:
    """A group of columns or images, and the plot of some of them in ``/entry/plots``, which holds links to them.

    Not NXdata itself: NXazint1d takes every NXdata of the entry for an integrated pattern.
    """
    group = add_group(entry, name, "NXcollection")
    plot = add_group(entry["plots"], name, "NXdata", signal=signal)
    if axes:
        plot.attrs["axes"] = axes
    if more:
        plot.attrs["auxiliary_signals"] = more
    for column in (signal, *axes, *more):
        plot[column] = h5py.SoftLink(f"{group.name}/{column}")
    return group


def add_instrument(entry: h5py.Group, poni: str, config: str) -> None:
    """Beamline and source as the configuration names them; wavelength and energy where the PONI knows them."""
    instrument = add_group(entry, "instrument", "NXinstrument")
    instrument["name"], source_name = map(clean_text, instrument_and_source(config))
    source = add_group(instrument, "source", "NXsource")
    source["name"], source["type"], source["probe"] = source_name, "Synchrotron X-ray Source", "x-ray"
    wavelength = wavelength_angstrom(poni)
    if wavelength is None:
        return
    beam = add_group(instrument, "monochromator", "NXmonochromator")
    _add_array(beam, "wavelength", wavelength, units="angstrom")
    _add_array(beam, "energy", HC_KEV_ANGSTROM / wavelength, units="keV")


def _create_reduction(entry: h5py.Group, time_ns: int, config: str) -> None:
    process = add_group(entry, "reduction", "NXprocess")
    process["program"] = "ringwatch"
    process["version"] = __version__
    process["date"] = iso_time(time_ns)
    process["reference"] = SPOTTINESS_REFERENCE
    add_group(process, "input", "NXparameters")["config"] = clean_text(config)


def _add_array(group: h5py.Group, name: str, values: object, **attributes: str) -> None:
    group.create_dataset(name, data=values).attrs.update(attributes)


# ----------------------------------------------------------------------------------------------------- the tables


def frame_columns(rows: FrameRows, stored: FramesStored = "none") -> Columns:
    """Rows of ``/entry/frames``, with what is ``stored`` of each frame; the monitor is NaN where there is none."""
    n_frames = rows.frame.size
    monitor = np.full(n_frames, np.nan) if rows.monitor is None else rows.monitor
    known = {"series": np.full(n_frames, rows.origin.series, np.int64), "monitor": monitor}
    columns = {name: known[name] if name in known else getattr(rows, name) for name in FRAME_COLUMNS}
    return columns | {name: getattr(rows.profiles, name) for name in FRAME_PROFILE_COLUMNS[stored]}


def create_frame_profiles(entry: h5py.Group, stored: FramesStored, bins: int, sums_shape: tuple[int, int]) -> None:
    """Make the columns of what is ``stored`` of each frame, without rows; ``sums_shape``: rows and words of sums."""
    shapes = {"sums": (sums_shape[0], bins, sums_shape[1])}
    for name, dtype in FRAME_PROFILE_COLUMNS[stored].items():
        _create_wide(entry["frames"], name, np.dtype(dtype), shapes.get(name, (bins,)))


def _create_wide(table: h5py.Group, name: str, dtype: np.dtype[Any], row: tuple[int, ...]) -> h5py.Dataset:
    """A column whose rows are arrays: chunks of some of them, compressed."""
    chunk = max(1, PROFILE_CHUNK_BYTES // max(1, dtype.itemsize * math.prod(row)))
    codec = hdf5plugin.Bitshuffle(cname="lz4")
    return table.create_dataset(name, (0, *row), dtype, maxshape=(None, *row), chunks=(chunk, *row), **codec)


def snapshot_columns(snapshot: Snapshot) -> Columns:
    """One row of ``/entry/snapshots``; what is not known is NaN, or an empty text."""
    accumulated = snapshot.accumulated
    told = {name: getattr(snapshot, name) for name in ("missing", "detector_dropped", "frames_expected")}
    values = {
        **payload.fates(snapshot.fates),
        **told,
        **flat.statistics(accumulated.statistics if accumulated else None),
        "n_frames": snapshot.n_frames,
        "time_ns": snapshot.time_ns,
        "accumulated_n_frames": accumulated.n_frames if accumulated else 0,
        **_three("union", snapshot.union),
        **_three("accumulated", accumulated.spottiness if accumulated else None),
        **_three("averaged", accumulated.averaged if accumulated else None),
    }
    return {name: _cell(values[name], dtype) for name, dtype in SNAPSHOT_COLUMNS.items()}


def decision_columns(decision: Decision) -> Columns:
    """One row of ``/entry/decisions``; what is not known is NaN, or an empty text."""
    known = {name: getattr(decision, name) for name in ("n_frames", "time_ns", "sentence")}
    values = flat.decision(decision) | known
    return {name: _cell(values[name], dtype) for name, dtype in DECISION_COLUMNS.items()}


def joined(parts: Sequence[Columns]) -> Columns:
    """Parts of a table as one, since each call of HDF5 costs as much as a thousand rows; no column for no part."""
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def append(table: h5py.Group, columns: Columns) -> None:
    """Append rows to a table; wide columns that it does not have yet are made."""
    for name, values in columns.items():
        column = table[name] if name in table else _create_wide(table, name, values.dtype, values.shape[1:])
        before = len(column)
        column.resize(before + len(values), axis=0)
        column[before:] = values


def n_rows(table: h5py.Group) -> int:
    """Number of complete rows of a table."""
    return min(map(len, table.values()))


def blocks(table: h5py.Group, names: Collection[str] | None = None) -> Iterator[Columns]:
    """The rows of a table in parts of bounded size; all columns, or some."""
    complete = n_rows(table)
    columns = {name: column for name, column in table.items() if names is None or name in names}
    row_bytes = sum(column.dtype.itemsize * math.prod(column.shape[1:]) for column in columns.values())
    step = max(1, min(BLOCK_ROWS, BLOCK_BYTES // row_bytes))
    for start in range(0, complete, step):
        stop = min(start + step, complete)
        yield {name: column[start:stop] for name, column in columns.items()}


def _cell(value: Scalar, dtype: Any) -> NDArray[Any]:
    """A column of one row. Texts end where there is no room for one more character."""
    if h5py.check_string_dtype(np.dtype(dtype)) is None:
        return np.array([value], dtype)
    data = clean_text(str(value or "")).encode()[: np.dtype(dtype).itemsize]
    return np.array([data.decode(errors="ignore").encode()], dtype)


def _three(prefix: str, spottiness: Spottiness | None) -> dict[str, float | None]:
    names = ("spottiness", "spottiness_weighted", "spottiness_rings")
    return {f"{prefix}_{name}": getattr(spottiness, name, None) for name in names}


def _create_tables(entry: h5py.Group) -> None:
    add_plotted(entry, "frames", "spottiness", ["frame"], ["spottiness_weighted", "spottiness_rings"])
    add_plotted(entry, "snapshots", "accumulated_spottiness", ["n_frames"], ["union_spottiness", "averaged_spottiness"])
    add_plotted(entry, "decisions", "value", ["n_frames"], ["low", "high", "target"])
    for table, (columns, chunk) in TABLES.items():
        for name, dtype in columns.items():
            entry[table].create_dataset(name, shape=(0,), maxshape=(None,), chunks=(chunk,), dtype=dtype)


def ring_table(snapshot: Snapshot) -> RingTable | None:
    """What a snapshot knows of each ring."""
    statistics = snapshot.accumulated.statistics if snapshot.accumulated else None
    return statistics.rings if statistics else None


def write_rings(entry: h5py.Group, rings: RingTable) -> None:
    """Make ``/entry/rings``, one row a ring."""
    group = add_plotted(entry, "rings", "uncertainty", ["position"])
    for column in fields(RingTable):
        group[column.name] = getattr(rings, column.name)
    group["d_spacing_A"].attrs["units"] = "angstrom"


# --------------------------------------------------------------------------------------------------- the profiles


def create_profile(entry: h5py.Group, name: str, bins: int) -> h5py.Group:
    """Make ``/entry/profiles/<kind>_<source>``: pyFAI's nine names, NaN until `put_profile`."""
    group = add_group(entry["profiles"], name, "NXdata", signal="intensity", axes=["radial"])
    for column in PROFILE_COLUMNS:
        group.create_dataset(column, data=np.full(bins, np.nan))
    group["intensity_errors"] = h5py.SoftLink("sem")
    group["n_frames"] = 0
    return group


def put_profile(entry: h5py.Group, profile: Profile) -> None:
    """Overwrite a profile in place (a live file allows nothing else)."""
    group = entry[f"profiles/{profile_name(profile)}"]
    for column in PROFILE_COLUMNS:
        group[column][...] = getattr(profile, column)
    group["n_frames"][...] = profile.n_frames


def profile_name(profile: Profile) -> str:
    """Name of the profile's group."""
    return f"{profile.kind}_{profile.source}"


def put_data(entry: h5py.Group, profiles: Iterable[Profile]) -> None:
    """Put the mean profile of the summed image into the default plot; the union's where no image was summed."""
    by_source = {profile.source: profile for profile in profiles if profile.kind == "mean"}
    shown = by_source.get("accumulated") or by_source.get("union")
    if shown:
        entry["data/I"][0] = shown.intensity
        entry["data/I_errors"][0] = shown.sem
        entry["data/norm"][...] = shown.normalization
