"""A saved state in, a file that survives a crash out, and back again.

It is a result file with one group more, ``/entry/resume``: where nobody goes on from it, its sums are results all the
same. What is read is not trusted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from ringwatch.intervals import MAX_INTERVALS, IntervalSet
from ringwatch.messages import SavedState, SeriesResult, SeriesStart
from ringwatch.publish import nexus
from ringwatch.publish.checked_hdf5 import CheckedGroup
from ringwatch.publish.disk import put_in_place_of, reserve
from ringwatch.publish.result_file import StoredResult, fates_of, fates_tree, reading, stored_result, write_result

MAX_PIXELS = 1 << 26
"""Of a frame, as many as the detector's may have."""
MAX_DUMMIES = 4
_SAID = {
    "frames_expected": "<i8",
    "frame_time_s": "<f8",
    "energy_eV": "<f8",
    "saturation": "<i8",
    "dummy": "<i8",
    "flatfield_applied": "?",
}
"""Numbers of `SeriesStart`, absent in the file where the header did not say them."""


@dataclass(frozen=True, slots=True)
class LiveMark:
    """How far the live file was when the state was saved.

    Attributes
    ----------
    name
        Of the file, without its ending; empty where there was none.
    rows
        Number of rows of each of its tables.
    """

    name: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredState:
    """What a state file says.

    Attributes
    ----------
    state
        Where to go on from.
    live
        Where the rows of before are.
    was_told
        The detector was told to stop this series.
    """

    state: SavedState
    live: LiveMark
    was_told: bool


def write_state(path: Path, stored: StoredState, config: str) -> None:
    """Write the file in the place of an older one: whoever is killed meanwhile leaves one of the two.

    Raises
    ------
    ResultFileError, HDF5_ERRORS
        It cannot be written; the older one stays.
    """
    part = path.with_name(f"{path.name}.new")
    part.unlink(missing_ok=True)
    try:
        write_result(part, stored.state.result, config=config, profiles=())
        _add_resume(part, stored)
        put_in_place_of(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_state(path: Path) -> StoredState:
    """Read what `write_state` wrote.

    Raises
    ------
    ResultFileError
        No such file, no HDF5, or something in it is missing or has a wrong type, shape or size.
    """
    with reading(path) as entry:
        result, resume = stored_result(entry), entry.group("resume")
        start = _start(result, resume)
        state = SavedState(
            result=SeriesResult(**{member.name: getattr(result, member.name) for member in fields(SeriesResult)}),
            start=start,
            frames=_frames(resume),
            n_frames=resume.count("n_frames"),
            dummies=_dummies(resume, start.dtype),
            elapsed_s=resume.number("elapsed_s", "<f8"),
            is_running=resume.number("is_running", "?"),
        )
        return StoredState(state, _live_mark(resume), resume.number("was_told", "?"))


# ---------------------------------------------------------------------------------------------------------- write


def _add_resume(path: Path, stored: StoredState) -> None:
    state, start = stored.state, stored.state.start
    planes = {"pixel_mask": start.pixel_mask, "flatfield": start.flatfield}
    kept = {name: plane for name, plane in planes.items() if plane is not None}
    with path.open("r+b", buffering=0) as raw, h5py.File(raw, "r+") as file:
        reserve(raw.fileno(), raw.seek(0, 2) + 2 * sum(plane.nbytes for plane in kept.values()))
        group = nexus.add_group(file["entry"], "resume", "NXcollection")
        for name, plane in kept.items():
            group.create_dataset(name, data=plane, chunks=True, **hdf5plugin.Bitshuffle(cname="lz4"))
        for name, value in _numbers(stored).items():
            group[name] = value
        group["frames"] = np.array(state.frames, np.int64).reshape(-1, 2)
        group["dummies"] = json.dumps({"values": state.dummies})
        group["fates"] = json.dumps(fates_tree(start.fates))
        group["live"] = json.dumps({"name": stored.live.name, "rows": dict(stored.live.rows)})


def _numbers(stored: StoredState) -> dict[str, Any]:
    state, start = stored.state, stored.state.start
    said = {name: getattr(start, name) for name in _SAID}
    wide = {name: value for name, value in (("shape", start.shape), ("pixel_size_m", start.pixel_size_m)) if value}
    return {
        **{name: np.dtype(_SAID[name]).type(value) for name, value in said.items() if value is not None},
        **{name: np.array(value) for name, value in wide.items()},
        "dtype": "" if start.dtype is None else start.dtype.str,
        "joined": start.joined,
        "n_frames": state.n_frames,
        "elapsed_s": state.elapsed_s,
        "is_running": state.is_running,
        "was_told": stored.was_told,
    }


# ----------------------------------------------------------------------------------------------------------- read


def _start(result: StoredResult, resume: CheckedGroup) -> SeriesStart:
    origin, shape = result.origin, _shape(resume)
    if not all(value is None or isinstance(value, str | int | float) for value in result.header.values()):
        raise ValueError("/entry/ringwatch/header has values that are no scalars")
    planes = {
        name: resume.array(name, dtype, shape) if name in resume else None
        for name, dtype in (("pixel_mask", "?"), ("flatfield", "<f4"))
    }
    return SeriesStart(
        series=origin.series,
        unique_id=origin.unique_id,
        header=result.header,
        shape=shape,
        dtype=_dtype(resume.text("dtype")),
        pixel_size_m=tuple(resume.array("pixel_size_m", "<f8", (2,)).tolist()) if "pixel_size_m" in resume else None,
        sample=origin.sample,
        joined=resume.number("joined", "?"),
        problem="",
        fates=fates_of(resume.tree("fates")),
        **{name: resume.number(name, dtype) if name in resume else None for name, dtype in _SAID.items()},
        **planes,
    )


def _shape(resume: CheckedGroup) -> tuple[int, int]:
    rows, columns = resume.array("shape", "<i8", (2,)).tolist()
    if min(rows, columns) < 1 or rows * columns > MAX_PIXELS:
        raise ValueError(f"/entry/resume/shape is {rows} x {columns}")
    return rows, columns


def _dtype(text: str) -> np.dtype[np.generic] | None:
    if not text:
        return None
    dtype = np.dtype(text) if len(text) == len("<u4") else np.dtype(object)
    if dtype.kind not in "iuf":
        raise ValueError(f"/entry/resume/dtype is {text!r}, no type of pixels")
    return dtype


def _frames(resume: CheckedGroup) -> tuple[tuple[int, int], ...]:
    intervals = resume.array("frames", "<i8", (None, 2))
    if len(intervals) > MAX_INTERVALS:
        raise ValueError(f"/entry/resume/frames has {len(intervals)} intervals, more than {MAX_INTERVALS}")
    frames = tuple((int(first), int(last)) for first, last in intervals)
    IntervalSet.of(frames)  # raises ValueError where they are no intervals
    return frames


def _dummies(resume: CheckedGroup, dtype: np.dtype[np.generic] | None) -> tuple[int | float, ...]:
    values = resume.tree("dummies").get("values")
    if not isinstance(values, list) or len(values) > MAX_DUMMIES or not all(_is_pixel(v, dtype) for v in values):
        raise ValueError(f"/entry/resume/dummies are no values of pixels, or more than {MAX_DUMMIES}")
    return tuple(values)


def _is_pixel(value: Any, dtype: np.dtype[np.generic] | None) -> bool:
    """Whether a pixel of this type can have this value."""
    if dtype is None or type(value) not in (int, float):
        return False
    try:
        with np.errstate(over="ignore"):
            return bool(np.array([value], dtype)[0] == value)
    except (OverflowError, ValueError):
        return False


def _live_mark(resume: CheckedGroup) -> LiveMark:
    tree = resume.tree("live")
    name, rows = tree.get("name"), tree.get("rows")
    if not isinstance(name, str) or Path(name).name != name or not isinstance(rows, dict):
        raise ValueError(f"/entry/resume/live is {tree!r}"[:200])
    if not all(type(count) is int and count >= 0 for count in rows.values()):
        raise ValueError("/entry/resume/live: rows are no counts")
    return LiveMark(name, rows)
