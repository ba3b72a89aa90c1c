"""A result file in, one figure out: profiles, spottiness against the number of frames, summed image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringwatch.extras import extra
from ringwatch.publish.checked_hdf5 import CheckedGroup
from ringwatch.publish.nexus import RADIAL_AXES, SNAPSHOT_COLUMNS
from ringwatch.publish.result_file import StoredResult, read_result, reading

KINDS = {
    "mean_accumulated": "mean",
    "sigma_clip_accumulated": "sigma_clip",
    "quantile_accumulated": "quantile",
    "median_clip_accumulated": "median_clip",
}
CURVES = {"accumulated_spottiness": "summed image", "union_spottiness": "union (blind to repeated frames)"}
INCHES, DOTS_PER_INCH = (11.0, 8.0), 120
IMAGE_PIXELS = 1000
"""More rows or columns would not be seen."""
BRIGHTEST_PERCENT = 99.5
"""Of the pixels have colours of their own; the few that are brighter have the last."""


def draw(result: Path, out: Path) -> None:
    """Draw a complete result file.

    Raises
    ------
    ConfigError
        matplotlib is not installed.
    ResultFileError
        It is no result file.
    """
    backend = extra("matplotlib.backends.backend_agg", "plot", "a figure")
    figure = extra("matplotlib.figure", "plot", "a figure").Figure(figsize=INCHES, layout="constrained")
    stored = read_result(result)
    with reading(result) as entry:
        _fill(figure, stored, entry)
    backend.FigureCanvasAgg(figure).print_png(out, metadata={"Software": "ringwatch"})


def _fill(figure: Any, stored: StoredResult, entry: CheckedGroup) -> None:
    figure.set_dpi(DOTS_PER_INCH)
    figure.suptitle(_title(stored, entry), wrap=True)
    image = _counts(stored)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    _profiles(upper.subplots(), stored, entry)
    parts = lower.subplots(1, 1 + (image is not None), squeeze=False)[0]
    _convergence(parts[0], stored, entry)
    if image is not None:
        _image(parts[1], image)


def _title(stored: StoredResult, entry: CheckedGroup) -> str:
    origin = stored.origin
    line = f"{origin.sample or 'sample without a name'}, series {origin.series}: {stored.n_frames} frames"
    sentence = entry.last_text("decisions/sentence")
    return f"{line}\n{sentence}" if sentence else line


def _profiles(axes: Any, stored: StoredResult, entry: CheckedGroup) -> None:
    name, unit = RADIAL_AXES.get(stored.unit, (stored.unit, ""))
    bins = stored.radial.size
    for group, label in KINDS.items():
        if f"profiles/{group}" not in entry:
            continue
        columns = (entry.array(f"profiles/{group}/{part}", "<f8", (bins,)) for part in ("intensity", "sem", "count"))
        intensity, sem, count = columns
        shown = np.where(count > 0, intensity, np.nan)
        (line,) = axes.plot(stored.radial, shown, linewidth=1, label=label)
        if label == "mean":
            axes.fill_between(stored.radial, shown - sem, shown + sem, color=line.get_color(), alpha=0.25, linewidth=0)
    axes.set(xlabel=f"{name} ({unit})", ylabel="intensity (square-root scale)")
    axes.set_yscale("function", functions=(_signed_root, _signed_square))
    axes.legend()


def _signed_root(value: Any) -> Any:
    return np.sign(value) * np.sqrt(np.abs(value))


def _signed_square(value: Any) -> Any:
    return np.sign(value) * value**2


def _convergence(axes: Any, stored: StoredResult, entry: CheckedGroup) -> None:
    frames = stored.frames["spottiness"]
    axes.plot(np.arange(1, frames.size + 1), frames, ".", markersize=2, color="0.7", label="each frame")
    curves = _snapshots(entry)
    for name, label in CURVES.items():
        axes.plot(curves["accumulated_n_frames"], curves[name], "o-", markersize=3, label=label)
    if frames.size:
        n = np.array([1.0, max(2, frames.size)])
        axes.plot(n, frames[0] / np.sqrt(n), "--", color="0.5", label="1/√N")
    axes.set(xlabel="frames", ylabel="spottiness", xscale="log", yscale="log")
    axes.legend()


def _snapshots(entry: CheckedGroup) -> Mapping[str, Any]:
    names = ("accumulated_n_frames", *CURVES)
    columns = {name: entry.array(f"snapshots/{name}", SNAPSHOT_COLUMNS[name], (None,)) for name in names}
    known = columns["accumulated_n_frames"] > 0
    return {name: column[known] for name, column in columns.items()}


def _counts(stored: StoredResult) -> NDArray[np.float64] | None:
    """The summed image in counts, as many pixels as can be seen; NaN where there never was a valid one."""
    if stored.image_sum is None or stored.image_lost is None:
        return None
    step = max(1, -(-max(stored.image_sum.shape) // IMAGE_PIXELS))
    image, lost = (plane[::step, ::step] for plane in (stored.image_sum, stored.image_lost))
    return np.where(lost < stored.n_frames, image * stored.signal_quantum, np.nan)


def _image(axes: Any, image: NDArray[np.float64]) -> None:
    brightest = np.nanpercentile(image, BRIGHTEST_PERCENT) if np.isfinite(image).any() else 1.0
    axes.imshow(np.sqrt(np.maximum(image, 0)), vmin=0, vmax=np.sqrt(max(brightest, 1.0)), interpolation="nearest")
    axes.set(title="summed image (square root of counts)", xticks=(), yticks=())
