"""Small made-up geometries and frames, awkward on purpose."""

import json
import os
from collections.abc import Sequence
from itertools import cycle, product

import numpy as np
from numpy.typing import NDArray

from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.geometry_pyfai import PixelTables

SHAPE, BINS = (37, 53), 11
"""What serves as well as any other: kernels for it are compiled once for many tests."""

AWKWARD = [((1, 1), 1), ((3, 5), 40), ((2, 900), 1), ((97, 131), 300)]
UNSIGNED = ("u1", "u2", "u4")
THOROUGH = "RINGWATCH_THOROUGH" in os.environ
PONI_SHAPE = (60, 50)
DETECTOR = {"pixel1": 1e-4, "pixel2": 1e-4, "max_shape": list(PONI_SHAPE), "orientation": 3}
PONI = f"""# made by a test
poni_version: 2.1
Detector: Detector
Detector_config: {json.dumps(DETECTOR)}
Distance: 0.1
Poni1: 0.0031
Poni2: 0.0024
Rot1: 0.002
Rot2: 0.001
Rot3: 0
Wavelength: 3e-11
"""


def with_types(
    shapes_and_bins: Sequence[tuple[tuple[int, int], int]],
) -> list[tuple[tuple[int, int], int, str]]:
    """Every shape with one of the unsigned types in turn, `make thorough` with each; the last one with every type.

    Each of them is compiled, which is what takes the time of these tests.
    """
    *others, last = shapes_and_bins
    some = product(others, UNSIGNED) if THOROUGH else zip(others, cycle(UNSIGNED), strict=False)
    return [(*made, dtype) for made, dtype in (*some, *product([last], (*UNSIGNED, "i1", "i2", "i4")))]


def geometry(shape: tuple[int, int], bins: int, masked: float = 0.05, seed: int = 0) -> Geometry:
    """Rings around a point off the centre, a smooth norm, some pixels masked; empty bins happen."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    y, x = rows - 0.4 * shape[0], columns - 0.55 * shape[1]
    radius = np.hypot(y, x)
    edges = np.linspace(0.0, radius.max() * 1.1 + 1e-9, bins + 1)
    table = (np.digitize(radius, edges) - 1).astype(np.uint16)
    table[rng.random(shape) < masked] = bins
    norm = 0.55 + 0.45 * np.cos(radius / (radius.max() + 1.0))
    sector = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * 71.999).astype(np.uint8)
    tables = PixelTables(
        shape=shape,
        unit="2th_deg",
        edges=edges,
        radial=(edges[1:] + edges[:-1]) / 2,
        bin_table=table.ravel(),
        norm_q=np.rint(norm * 2**30).astype(np.uint32).ravel(),
        norm_quantum=2.0**-30,
        norm_error=0.0,
        sector=sector.ravel(),
        pixel_bins=True,
        wavelength_m=1e-10,
        pixel_size_m=(75e-6, 75e-6),
    )
    return Geometry.from_tables(tables, "synthetic", "<synthetic>")


def frames(
    n: int, shape: tuple[int, int], dtype: np.dtype[np.generic], largest: int, invalid: float = 0.02, seed: int = 1
) -> NDArray[np.integer]:
    """Random counts up to ``largest``, another random set of pixels invalid in each frame."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, largest, (n, *shape), endpoint=True).astype(dtype)
    bad = -1 if np.dtype(dtype).kind == "i" else np.iinfo(dtype).max
    counts[rng.random(counts.shape) < invalid] = bad
    return counts
