"""A PONI given as text or as a path in, its text, its keys and whether they say enough out."""

import json
import math
import os
from pathlib import Path
from typing import Any

from .errors import GeometryError

_MAX_PONI_BYTES = 1 << 20


def read_poni(poni: str | os.PathLike[str]) -> tuple[str, str]:
    """Text and name of a PONI that is given as text or as a path."""
    if isinstance(poni, str) and ("\n" in poni or poni.lstrip().startswith("{")):
        return poni, "<text>"
    path = Path(poni)
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_PONI_BYTES + 1).decode()
    except OSError as error:
        raise GeometryError(f"the PONI file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise GeometryError(f"{path} is not a PONI file: {error}") from error
    if len(text) > _MAX_PONI_BYTES:
        raise GeometryError(f"{path} is not a PONI file: it is larger than {_MAX_PONI_BYTES} bytes")
    return text, str(path)


def poni_entries(text: str) -> dict[str, Any]:
    """Keys and values of a PONI; of repeated keys the last one counts, as programs append to the file."""
    if text.lstrip().startswith("{"):
        config: dict[str, Any] = json.loads(text)
        return dict(config.get("poni") or config)
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {key.strip().lower(): value.strip() for key, colon, value in lines if colon}


def check_complete(poni: Any, unit: str, source: str) -> None:
    """Raise GeometryError where pyFAI would quietly go on with a default or a senseless number."""
    needed = {"Distance": poni.dist, "Poni1": poni.poni1, "Poni2": poni.poni2}
    needed["pixel size 1"], needed["pixel size 2"] = (
        (poni.detector.pixel1, poni.detector.pixel2) if poni.detector else (None, None)
    )
    if unit.startswith("q_"):
        needed["Wavelength"] = poni.wavelength
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise GeometryError(f"{source} does not say {', '.join(missing)}: is it a PONI file?")
    numbers = [*needed.values(), *(value or 0 for value in (poni.rot1, poni.rot2, poni.rot3, poni.wavelength))]
    lengths = [poni.dist, poni.detector.pixel1, poni.detector.pixel2, poni.wavelength or 1]
    detector_shape(poni.detector)
    if not all(map(math.isfinite, numbers)) or min(lengths) <= 0:
        raise GeometryError(f"{source}: distance, pixel size and wavelength must be positive, all numbers finite")


def detector_shape(detector: Any) -> tuple[int, int] | None:
    """(rows, columns) of a detector of pyFAI; None where it does not say."""
    if detector.shape is None:
        return None
    rows, columns = detector.shape
    return int(rows), int(columns)
