"""Rows of frames in, the conditions of the measurement out: beam, saturation, lost frames, header against PONI."""

import math
import re
import time
from collections import deque
from statistics import median

import numpy as np

from ringwatch.messages import FrameRows, SeriesStart, Setup
from ringwatch.stop.evaluation import Conditions
from ringwatch_gpu.geometry import Geometry

_REMEMBERED = 64
_DARK, _WEAK = 0.5, 0.1
_SIGNIFICANT = 5.0
_DARK_IN_A_ROW = 3
_TOLERANCE = 1e-3
_PONI_DATE = re.compile(r"^# Calibration done (?:on|at) (.{1,40})$", re.MULTILINE)
"""As pyFAI writes it above each calibration."""


class ConditionWatch:
    """Watches the conditions of one series.

    Parameters
    ----------
    start
        What the detector said.
    mismatch
        Where header and PONI differ, as a sentence, else empty.
    zeros
        Masked pixels may count as zeros.
    samples
        The source leaves frames out on purpose: missing ones are not lost.
    """

    def __init__(self, start: SeriesStart, mismatch: str, *, zeros: bool = False, samples: bool = False) -> None:
        self._start, self._mismatch, self._zeros, self._samples = start, mismatch, zeros, samples
        self._bright: deque[float] = deque(maxlen=_REMEMBERED)
        self._dark: deque[float] = deque(maxlen=_REMEMBERED)
        self._dark_since_ns = 0
        self._frames = self._masked = 0
        self._least_masked: int | None = None

    def see(self, rows: FrameRows) -> None:
        """Take the rows of a batch."""
        for total, masked in zip(rows.total_signal.tolist(), rows.masked_pixels.tolist(), strict=True):
            self._see_beam(total, rows.time_ns)
            self._frames += 1
            self._masked += masked
            self._least_masked = masked if self._least_masked is None else min(masked, self._least_masked)

    def conditions(self, pixel_bits: int, drift_since: int | None) -> Conditions:
        """The conditions now, for frames of so many bits a pixel."""
        fates = self._start.fates
        lost = (0 if self._samples else fates.missing) + fates.skipped + fates.malformed.total()
        return Conditions(
            pixel_bits=pixel_bits,
            mismatch=self._mismatch,
            masked_zeros=self._zeros,
            lost_share=lost / max(lost + fates.reduced, 1),
            saturated_pixels=self.saturated_pixels or 0.0,
            beam_down_since=self.beam_down_since,
            drift_since=drift_since,
        )

    @property
    def beam_down_since(self) -> str | None:
        """Time of day; None while there is beam."""
        return _time_of_day(self._dark_since_ns) if len(self._dark) >= _DARK_IN_A_ROW else None

    @property
    def saturated_pixels(self) -> float | None:
        """Pixels a frame that are invalid beyond those that always are; None if nobody says what saturates."""
        if self._start.saturation is None or self._least_masked is None:
            return None
        return self._masked / self._frames - self._least_masked

    def _see_beam(self, total: float, time_ns: int) -> None:
        """A frame with less than half of the usual counts is dark; the usual is the median of the bright ones.

        A beam that comes back with less, and stays so, is the usual one from then on.
        """
        usual = median(self._bright) if self._bright else 0
        if usual - total > max((1 - _DARK) * usual, _SIGNIFICANT * math.sqrt(abs(usual))):
            self._dark_since_ns = self._dark_since_ns if self._dark else time_ns
            self._dark.append(total)
            if len(self._dark) < _REMEMBERED or min(self._dark) < _WEAK * usual:
                return
            self._bright = self._dark.copy()
        else:
            self._bright.append(total)
        self._dark.clear()


def setup(start: SeriesStart, geometry: Geometry) -> Setup:
    """With what a series is reduced, in the words of a person who checks it."""
    made = _PONI_DATE.search(geometry.poni)
    return Setup(
        energy_eV=start.energy_eV,
        poni_energy_eV=geometry.energy_eV,
        poni_date=made[1].strip() if made else None,
        masked_share=float(np.mean(geometry.bin_table == geometry.bins)),
    )


def header_mismatch(start: SeriesStart, geometry: Geometry) -> str:
    """Where header and geometry differ by more than 0.1 %, in sentences: the PONI wins, but somebody should know."""
    pairs = [
        ("photon energy", "eV", start.energy_eV, geometry.energy_eV),
        *zip(
            ("pixel height", "pixel width"),
            ("m", "m"),
            start.pixel_size_m or (None, None),
            geometry.pixel_size_m,
            strict=True,
        ),
    ]
    return " ".join(
        f"The header says {name} {header:.6g} {unit}, the PONI {poni:.6g} {unit}: the PONI is used."
        for name, unit, header, poni in pairs
        if header and poni and abs(header - poni) > _TOLERANCE * poni
    )


def flat_field(start: SeriesStart, geometry: Geometry) -> str:
    """A warning where no flat field was applied, or two were."""
    if start.flatfield_applied is False and geometry.flat is None:
        return "The detector did not apply its flat field nor send it, and geometry.flat names none: none is applied."
    if start.flatfield_applied and geometry.flat is not None:
        return "The detector applied its flat field, and geometry.flat is applied on top of it."
    return ""


def masked_zeros(start: SeriesStart) -> str:
    """A warning where the detector sends zeros in place of what its mask hides, and not the mask."""
    if start.header.get("mask_to_zero") in (True, 1) and start.pixel_mask is None:
        return "The detector sends masked pixels as zeros, but not its mask: name it as geometry.mask."
    return ""


def _time_of_day(time_ns: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(time_ns / 1e9))
