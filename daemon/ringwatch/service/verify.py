"""The user's own frames through ringwatch and through pyFAI: a table of differences and a verdict."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table

from ringwatch.config import Config, FilesConfig
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.service.images import read_image
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile
from ringwatch_gpu import devices
from ringwatch_gpu.validity import Validity
from ringwatch_gpu.verification import Comparison, Verification


def verify(path: str, config: Config | FilesConfig, n_frames: int) -> list[Comparison]:
    """Compare the first ``n_frames`` frames of a file.

    Raises
    ------
    ConfigError, GeometryError, NoDevice, MalformedMessage
    """
    device = devices.choose(config.device.platform, config.device.type)
    section = config.geometry
    with FramesFile(path) as file:
        geometry = GeometrySource(section, read_image).for_series(
            file.shape, file.pixel_mask, is_float=file.dtype.kind == "f"
        )
        validity = Validity.of(file.dtype, section.dummies)
        verification = Verification(
            geometry,
            file.dtype,
            device,
            solid_angle=section.solid_angle,
            polarization=section.polarization_factor,
            negatives=validity.lowest < 0,
        )
        return verification.compare(islice(_decoded(file), n_frames), validity)


def _decoded(file: FramesFile) -> Iterator[NDArray[np.generic]]:
    for frame in file.frames():
        pixels = np.empty(file.shape, file.dtype)
        decode_into(frame, pixels)
        yield pixels


def report(comparisons: list[Comparison], console: Console) -> bool:
    """Print the table and the verdict; True if everything agrees."""
    table = Table(Column("quantity", no_wrap=True), "compared with", "largest difference", "tolerance", "")
    for item in comparisons:
        verdict = "ok" if item.agrees else "DIFFERS"
        table.add_row(
            item.quantity, item.against, f"{item.largest_ppm:.4f} ppm", f"{item.tolerance_ppm:g} ppm", verdict
        )
    console.print(table)
    agrees = all(item.agrees for item in comparisons)
    console.print("ringwatch and pyFAI agree on these frames." if agrees else "They do not agree: see the table.")
    return agrees
