"""A configuration tried out without a detector: device, geometry, mask, quantisation, kernels."""

from collections.abc import Iterator

from ringwatch.config import Config
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.service.masks import read_mask
from ringwatch_gpu import devices
from ringwatch_gpu.batch import compile_kernels
from ringwatch_gpu.errors import ShapeUnknown

LARGEST_NORM_ERROR = 2e-8


def check(config: Config) -> Iterator[str]:
    """Try everything in the order of `run`; a line for each thing that is right.

    Raises
    ------
    NoDevice, KernelBuildError, GeometryError
    """
    device = devices.choose(config.device.platform, config.device.type)
    yield f"device      {device.name.strip()} ({device.platform.name.strip()})"
    try:
        geometry = GeometrySource(config.geometry, read_mask).base()
    except ShapeUnknown:
        yield f"geometry    {config.geometry.poni}: readable; the shape will come from the first frame"
        return
    energy = f", {geometry.energy_eV / 1e3:.3f} keV" if geometry.energy_eV else ""
    yield f"geometry    {geometry.source}: {geometry.shape[0]} x {geometry.shape[1]} pixels{energy}"
    yield f"bins        {geometry.bins} from {geometry.edges[0]:.4g} to {geometry.edges[-1]:.4g} {geometry.unit}"
    yield f"mask        {geometry.mask.mean():.1%} of the pixels are ignored (detector's own and the file's)"
    kept = "kept" if geometry.norm_error <= LARGEST_NORM_ERROR else "EXCEEDED"
    yield f"norm        quantised to {geometry.norm_error:.1e} relative (limit {LARGEST_NORM_ERROR:g}: {kept})"
    compile_kernels(geometry, device)
    yield "kernels     compiled for 8, 16 and 32-bit pixels"
    yield f"stream      {config.stream.endpoint} (not connected: a second receiver would take every second frame)"
