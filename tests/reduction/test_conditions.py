"""What forbids to trust the numbers: no beam, saturated pixels, lost frames; and what does not."""

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tests.kernels import synthetic

from ringwatch.messages import Fates, FrameRows, Origin, SeriesStart
from ringwatch.reduction.conditions import ConditionWatch, masked_zeros, setup

ORIGIN = Origin(1, "A", "CeO2", 1, "d1ce57")
SECOND_NS = 1_000_000_000
BEGIN_NS = 1_700_000_000 * SECOND_NS


def rows(totals: list[int], at_s: int = 0, masked: int | list[int] = 7) -> FrameRows:
    n = len(totals)
    nothing, masks = np.zeros(n), np.broadcast_to(np.asarray(masked, np.int64), n)
    total = np.array(totals, np.uint64)
    return FrameRows(
        ORIGIN, BEGIN_NS + at_s * SECOND_NS, np.arange(n), nothing, nothing, nothing, total, masks
    )  # fmt: skip


def watch(**start: object) -> ConditionWatch:
    return ConditionWatch(SeriesStart(1, "A", **start), "")


def down_since(watching: ConditionWatch) -> str | None:
    return watching.conditions(16, None).beam_down_since


def time_of_day(at_s: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(BEGIN_NS / SECOND_NS + at_s))


def test_three_dark_frames_in_a_row_are_a_lost_beam() -> None:
    watching = watch()
    watching.see(rows([1000] * 20, 1))
    assert down_since(watching) is None
    watching.see(rows([10, 12], 2))
    assert down_since(watching) is None
    watching.see(rows([11], 9))
    assert down_since(watching) == time_of_day(2)
    watching.see(rows([990], 12))
    assert down_since(watching) is None
    for at_s in (20, 21, 22):
        watching.see(rows([9], at_s))
    assert down_since(watching) == time_of_day(20)


def test_single_dark_frames_are_none() -> None:
    watching = watch()
    watching.see(rows([1000, 0, 0, 1000] * 20))
    assert down_since(watching) is None


def test_darkness_does_not_become_usual() -> None:
    watching = watch()
    watching.see(rows([1000] * 20, 1))
    watching.see(rows([0] * 1000, 2))
    assert down_since(watching) == time_of_day(2)


@pytest.mark.parametrize(
    "totals",
    [
        [1000] * 50 + [520] * 50,
        [int(10000 * 0.99**n) for n in range(300)],
        [3, 0, 1, 0, 0, 0, 0, 5, 0, 0] * 9,
        [0] * 50,
    ],
    ids=["a little darker", "slow decay", "few photons", "never a photon"],
)
def test_what_is_no_lost_beam(totals: list[int]) -> None:
    watching = watch()
    for total in totals:
        watching.see(rows([total]))
        assert down_since(watching) is None


def test_a_weaker_beam_is_the_usual_one_after_a_while() -> None:
    watching = watch()
    watching.see(rows([1000] * 20, 1))
    watching.see(rows([400] * 63, 2))
    assert down_since(watching) == time_of_day(2)
    watching.see(rows([400], 3))
    assert down_since(watching) is None
    watching.see(rows([150] * 3, 4))
    assert down_since(watching) == time_of_day(4)


def test_totals_beyond_32_bits() -> None:
    watching = watch()
    watching.see(rows([2**63] * 5 + [2**61] * 3))
    assert down_since(watching) == time_of_day(0)


def test_saturated_pixels_are_those_that_are_invalid_in_some_frames_only() -> None:
    """100 pixels are never valid; of the others 2 saturate in one frame of four, if the header says at what value."""
    told, untold = watch(saturation=60000), watch()
    for watching in (told, untold):
        watching.see(rows([5] * 4, masked=[100, 102, 100, 100]))
        watching.see(rows([5] * 4, masked=[100, 100, 100, 102]))
    assert told.conditions(16, None).saturated_pixels == pytest.approx(0.5)
    assert untold.conditions(16, None).saturated_pixels == 0


def test_lost_frames_are_a_share_of_all_that_should_have_come() -> None:
    fates = Fates(reduced=90, skipped=1, malformed=Counter(size=2, shape=1), missing=6)
    watching = watch(fates=fates)
    assert watching.conditions(16, None).lost_share == pytest.approx(0.1)
    fates.reduced = 190
    assert watching.conditions(16, None).lost_share == pytest.approx(0.05)


def test_frames_that_the_source_leaves_out_on_purpose_are_not_lost() -> None:
    fates = Fates(reduced=90, skipped=10, missing=900)
    watching = ConditionWatch(SeriesStart(1, "A", fates=fates), "", samples=True)
    assert watching.conditions(16, None).lost_share == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("header", "mask", "is_told"),
    [
        ({"mask_to_zero": True}, None, True),
        ({"mask_to_zero": 1}, None, True),
        ({"mask_to_zero": True}, np.zeros((2, 2), bool), False),
        ({"mask_to_zero": False}, None, False),
        ({"mask_to_zero": "yes"}, None, False),
        ({}, None, False),
    ],
)
def test_masked_pixels_that_come_as_zeros_need_a_mask(header: dict[str, object], mask: object, is_told: bool) -> None:
    told = masked_zeros(SeriesStart(1, header=header, pixel_mask=mask))  # type: ignore[arg-type]
    assert bool(told) == is_told
    watching = ConditionWatch(SeriesStart(1), "", zeros=is_told)
    assert watching.conditions(16, None).masked_zeros == is_told


def test_before_the_first_frame_all_is_well() -> None:
    found = watch(saturation=60000).conditions(16, None)
    assert (found.lost_share, found.saturated_pixels, found.beam_down_since) == (0, 0, None)


def test_where_nobody_says_what_saturates_nothing_is_known() -> None:
    watching = watch()
    watching.see(rows([5] * 4, masked=[100, 102, 100, 100]))
    assert watching.saturated_pixels is None


def test_what_others_know_is_passed_on() -> None:
    found = ConditionWatch(SeriesStart(1, "A"), "The header says 60 keV.").conditions(8, 412)
    assert (found.pixel_bits, found.mismatch, found.drift_since) == (8, "The header says 60 keV.", 412)


@pytest.mark.parametrize(
    ("poni", "date"),
    [
        ("# Calibration done on Fri Nov 20 10:12:13 2026\nponi_version: 2.1\n", "Fri Nov 20 10:12:13 2026"),
        ("# Nota: C-Order\n# Calibration done at Thu Jan  5 2023\nDistance: 0.1\n", "Thu Jan  5 2023"),
        ("Distance: 0.1\n", None),
        (f"# Calibration done on {'x' * 100}\n", None),
    ],
)
def test_the_setup_tells_when_the_poni_was_made(poni: str, date: str | None) -> None:
    geometry = replace(synthetic.geometry((8, 10), 3, masked=0.0), poni=poni)
    assert setup(SeriesStart(1, "A"), geometry).poni_date == date


def test_the_setup_tells_energies_and_mask() -> None:
    geometry = synthetic.geometry((8, 10), 3, masked=0.0)
    mask = np.zeros((8, 10), np.bool_)
    mask[:2] = True
    found = setup(SeriesStart(1, "A", energy_eV=12_000.0), geometry.masked(mask))
    assert found.masked_share == 0.25
    assert found.energy_eV == 12_000
    assert found.poni_energy_eV == pytest.approx(12_398.4, rel=1e-4)
