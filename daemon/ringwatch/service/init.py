"""From a detector's address and its PONI file to a commented configuration, for `ringwatch init`."""

import math
from collections.abc import Mapping
from pathlib import Path

from ringwatch.config import Config
from ringwatch.config.keys import toml_value
from ringwatch.config.template import HOW_TO_READ, commented_toml
from ringwatch.errors import ConfigError

MAX_PONI_BYTES = 1 << 20
HC_KEV_M = 1.2398419843320026e-9
"""Planck's constant times the speed of light (exact in the SI)."""


def initial_config(endpoint: str, poni: Path) -> str:
    """Write a configuration for one detector.

    Parameters
    ----------
    endpoint
        The detector's stream, as tcp://HOST:PORT.
    poni
        Its calibration. The text names it by its absolute path, so that it may be saved anywhere.

    Raises
    ------
    ConfigError
        The endpoint cannot be used, or the file is missing or no PONI file.
    """
    config = Config.for_endpoint(endpoint, poni)
    path = str(config.geometry.poni)
    title = [f"Configuration of ringwatch for {toml_value(path)}: {_describe(_read_poni(config.geometry.poni))}."]
    return commented_toml([*title, "", HOW_TO_READ], {"stream.endpoint": endpoint, "geometry.poni": path})


def _read_poni(path: Path) -> dict[str, str]:
    """The "key: value" lines of a PONI file, keys in lower case."""
    with path.open("rb") as file:
        text = file.read(MAX_PONI_BYTES).decode(errors="replace")
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    facts = {key.strip().lower(): value.strip() for key, separator, value in lines if separator}
    if problems := [f'{path}: no line "{key}: NUMBER"' for key in _REQUIRED if _number(facts, key.lower()) is None]:
        raise ConfigError([*problems, "a PONI file is what pyFAI-calib2 saves after a calibration"], "PONI file")
    return facts


_REQUIRED = ("Distance", "Poni1", "Poni2")


def _describe(facts: Mapping[str, str]) -> str:
    name = "".join(c for c in facts.get("detector", "") if c.isprintable())[:80]
    wavelength_m = _number(facts, "wavelength")
    energy = f"{HC_KEV_M / wavelength_m:.3f} keV" if wavelength_m else "no wavelength given, so no unit q"
    return ", ".join(filter(None, [name, f"{1e3 * float(facts['distance']):.2f} mm", energy]))


def _number(facts: Mapping[str, str], key: str) -> float | None:
    try:
        value = float(facts.get(key, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
