"""Texts of the configuration, the PONI and the detector in; what a file can store and what it says of them out."""

import json
import re

import numpy as np


def clean_text(text: str) -> str:
    """What of a text HDF5 can store: no NUL, no half of a surrogate pair (detectors and headers may send both)."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def iso_time(time_ns: int) -> str:
    """Wall clock in ISO 8601, to the millisecond, UTC."""
    return f"{np.datetime64(time_ns, 'ns').astype('datetime64[ms]')}+00:00"


def corrections(config: str) -> dict[str, bool]:
    """Which corrections the intensities contain, as far as the configuration says so."""
    geometry = json.loads(config).get("geometry")
    known = {"normalization_applied": True}
    if not isinstance(geometry, dict):
        return known
    if "solid_angle" in geometry:
        known["solid_angle_applied"] = bool(geometry["solid_angle"])
    if "polarization" in geometry:
        known["polarization_applied"] = geometry["polarization"] not in ("none", None)
    return known


def instrument_and_source(config: str) -> tuple[str, str]:
    """Names of the beamline and of the laboratory, "unknown" where the configuration has none."""
    publish = json.loads(config).get("publish")
    hdf5 = publish.get("hdf5") if isinstance(publish, dict) else None
    named = hdf5 if isinstance(hdf5, dict) else {}
    return str(named.get("instrument", "unknown")), str(named.get("source", "unknown"))


def wavelength_angstrom(poni: str) -> float | None:
    """Wavelength that a PONI text (or its JSON form) gives in metres; the last one counts, as in pyFAI."""
    found = re.findall(r'(?:^|[{,])\s*"?wavelength"?\s*:\s*([-+.\deE]+)', poni, re.IGNORECASE | re.MULTILINE)
    try:
        wavelength = float(found[-1]) * 1e10
    except (IndexError, ValueError):
        return None
    return wavelength if 0 < wavelength < np.inf else None
