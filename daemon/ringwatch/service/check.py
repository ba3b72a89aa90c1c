"""A configuration tried out without a detector: device, geometry, mask, quantisation, kernels, rings, stop rule."""

from collections.abc import Iterator
from glob import iglob
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ringwatch.clock import SystemClock
from ringwatch.config import GROWING_METRICS, Config, GeometryConfig, RingsConfig, StopConfig, StreamConfig, ZmqConfig
from ringwatch.control.actuators import actuator
from ringwatch.messages import Metric
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.reduction.recent import require_room
from ringwatch.service.exposure import exposed, server_keys
from ringwatch.service.images import read_image
from ringwatch.service.settings import d_spacings_A, reduction_settings
from ringwatch.stop.phrases import goal
from ringwatch_gpu import devices
from ringwatch_gpu.batch import compile_kernels
from ringwatch_gpu.errors import ShapeUnknown
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.norms import LARGEST_NORM_ERROR
from ringwatch_gpu.ring_positions import RadialAxis
from ringwatch_gpu.spottiness import MIN_AZIMUTH
from ringwatch_gpu.sums import sums_shape

_OTHERS = {
    "pull": "not connected now: a second receiver on this port takes every second frame from the first, for good",
    "sub": "subscribed to: any number may be; frames that the publisher leaves out are missing",
}
_OVERLOAD = {
    "skip": "if it is too fast the oldest frames are skipped and counted",
    "block": "if it is too fast nothing is taken from it: it waits, or loses frames itself",
}

MOST_FILES = 10_000
"""More are not counted."""


def check(config: Config) -> Iterator[str]:
    """Try everything in the order of `run`; a line for each thing that is right.

    Raises
    ------
    NoDevice, KernelBuildError, GeometryError
    ConfigError
        The window needs too much memory.
    """
    spacings = d_spacings_A(config.rings)
    device = devices.choose(config.device.platform, config.device.type)
    yield f"device      {devices.name_of(device)}"
    try:
        geometry: Geometry | None = GeometrySource(config.geometry, read_image).base()
    except ShapeUnknown:
        yield f"geometry    {config.geometry.poni}: readable; the shape will come from the first frame"
        geometry = None
    if geometry is not None:
        yield from _geometry_lines(geometry, config.geometry)
        settings = reduction_settings(config, device)
        reference, tells_noise = settings.monitor_reference, settings.tells_noise
        require_room(config.accumulate.window, sums_shape(geometry, reference, tells_noise=tells_noise))
        compile_kernels(geometry, device, tells_noise=tells_noise)
        yield "kernels     compiled for 8, 16 and 32-bit pixels"
    yield f"rings       {_rings(config.rings, spacings, geometry)}"
    yield f"accumulate  {config.accumulate.scope}, window: {config.accumulate.window.text}"
    yield f"stop        {_stop(config.stop)}"
    yield f"stream      {_stream(config.stream)}"
    if config.control_unit is not None:
        yield f"dropped     asked every 2 s of a series at {config.control_unit}"
    yield f"publish     {_publish(config.publish.zmq)}"
    yield from (f"WARNING     {sentence}" for sentence in exposed(config))


def _stream(section: StreamConfig) -> str:
    if section.follow is None:
        return f"{section.endpoint}, {_OTHERS[section.socket]}; {_OVERLOAD[section.policy]}"
    names = iglob(section.follow.partition("::")[0], recursive=True)  # noqa: PTH207 - Path.glob: no absolute pattern
    there = sum(1 for _ in islice(names, MOST_FILES))
    return f"files {section.follow} ({there}{' or more' if there == MOST_FILES else ''} there now)"


def _publish(section: ZmqConfig) -> str:
    keys = server_keys(section)
    if keys is None:
        return f"{section.bind}, not encrypted"
    whom = "all who know the daemon's public key" if keys.clients is None else f"{len(keys.clients)} known clients"
    return f"{section.bind}, encrypted, for {whom}"


def _geometry_lines(geometry: Geometry, section: GeometryConfig) -> Iterator[str]:
    energy = f", {geometry.energy_eV / 1e3:.3f} keV" if geometry.energy_eV else ""
    yield f"geometry    {geometry.source}: {geometry.shape[0]} x {geometry.shape[1]} pixels{energy}"
    yield f"bins        {geometry.bins} from {geometry.edges[0]:.4g} to {geometry.edges[-1]:.4g} {geometry.unit}"
    if geometry.splitting is not None:
        reach = geometry.splitting.length[~geometry.mask.ravel()].mean()
        yield f"split       {section.splitting}: a pixel reaches {reach:.2f} bins; sums are good to float64, not exact"
    yield f"mask        {geometry.mask.mean():.1%} of the pixels are ignored (detector's own and the file's)"
    yield f"corrected   for {_corrections(geometry, section)}"
    yield f"signals     {_signals(geometry, section)}"
    kept = "kept" if geometry.norm_error <= LARGEST_NORM_ERROR else "EXCEEDED"
    yield f"norm        quantised to {geometry.norm_error:.1e} relative (limit {LARGEST_NORM_ERROR:g}: {kept})"


def _corrections(geometry: Geometry, section: GeometryConfig) -> str:
    """The factors of the normalization, and the values of those that came from files."""
    told = ["solid angle"] if section.solid_angle else []
    told += [] if section.polarization_factor is None else [f"polarization {section.polarization_factor:g}"]
    used = ~geometry.mask
    for name, source, factor in (
        ("flat field", section.flat, geometry.flat),
        ("absorption", section.absorption, geometry.absorption),
    ):
        if factor is not None:
            told.append(f"{name} {source} ({factor[used].min():.4g} to {factor[used].max():.4g})")
    header = "" if section.flat else "; a flat field in the stream is used where the detector did not apply it"
    return (", ".join(told) or "nothing") + header


def _signals(geometry: Geometry, section: GeometryConfig) -> str:
    """What is summed, and to what it is rounded."""
    if geometry.quantum is None:
        return "raw counts, unsigned; float pixels in multiples of 1/256"
    rounded = f"raw counts in multiples of 1/{1 / geometry.quantum:.0f}"
    if geometry.dark is None:
        return rounded
    dark = geometry.dark[~geometry.mask]
    return f"{rounded}, less the dark {section.dark} ({dark.min():.4g} to {dark.max():.4g}, mean {dark.mean():.4g})"


def _rings(rings: RingsConfig, spacings: NDArray[np.float64] | None, geometry: Geometry | None) -> str:
    """Where the rings come from, and how many of them the detector sees."""
    if spacings is None:
        return "found in the profile of the summed image"
    source = "given d-spacings" if rings.calibrant is None else rings.calibrant
    if geometry is None:
        return f"{source}: {spacings.size}; how many fall on the detector depends on its shape"
    position, edges = RadialAxis.of(geometry).position(spacings), geometry.edges
    bins = np.searchsorted(edges, position[(position >= edges[0]) & (position < edges[-1])], side="right") - 1
    usable = np.count_nonzero(geometry.azimuth_fraction[bins] >= MIN_AZIMUTH)
    count = f"{bins.size or 'NONE'} of {spacings.size} fall on the detector"
    return f"{source}: {count}, {usable or 'NONE'} with at least {MIN_AZIMUTH:.0%} of the azimuth, as is needed"


def _stop(stop: StopConfig | None) -> str:
    """What is compared with what, and what happens then."""
    if stop is None:
        return "no section [stop]: nothing is decided, only observed"
    criteria = f" {'and' if stop.combine == 'all' else 'or'} ".join(_criterion(*one) for one in stop.criteria)
    return f"when {criteria}, {100 * stop.confidence:.0f} % sure: {_consequence(stop)}"


def _consequence(stop: StopConfig) -> str:
    """Who is told. They are not asked now: a check must change nothing."""
    told = actuator(stop, SystemClock())
    if told is None:
        return "nothing is stopped, it is only said"
    whom = f"the detector at {stop.url}" if stop.via == "simplon" else told.whom
    return f"{whom} {'would be' if stop.dry_run else 'is'} told to stop{' (dry run)' if stop.dry_run else ''}"


def _criterion(metric: Metric, target: float) -> str:
    return f"{metric} is {'at least' if metric in GROWING_METRICS else 'at most'} {goal(metric, target)}"
