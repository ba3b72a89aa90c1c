"""The page in a browser: what stands there is what was published."""

import re
import time
from dataclasses import replace
from itertools import combinations

import httpx2
import numpy as np
import pytest

from ringwatch.messages import Setup, SmallImage
from ringwatch.publish.web import WebPublisher
from tests.publish.conftest import TIME_NS

UNKNOWN = "\u2013"
PARTS = ("header", "#word", "#sentence", ".number", ".curves", ".profiles", ".image", "details")
AN_HOUR = 720_000
"""Frames of an hour at 200 Hz."""


def percent(value):
    p = 100 * value
    return f"{p:.0f} %" if p >= 9.95 else f"{p:.1f} %" if p >= 0.095 else f"{p:.2f} %"


def test_numbers_on_the_page_are_the_published_ones(web, results, opened):
    web.publish(results.event())
    web.publish(results.rows())
    web.publish(results.measured(412))
    window = opened(web.url)
    window.wait_for("document.getElementById('frame').textContent === '412 of 500'")
    facts = httpx2.get(f"{web.url}/api/latest").json()
    assert window.text("number") == percent(facts["accumulated_spottiness_rings"])
    assert window.text("sentence") == facts["sentence"]
    assert window.text("word") == "MEASURING"
    table = window.page.eval_on_selector_all("#numbers td", "all => all.map(one => one.textContent)")
    measures = ("spottiness_rings", "spottiness", "spottiness_weighted")
    told = [
        facts.get(f"{source}_{one}") for source in ("accumulated", "averaged", "frame", "union") for one in measures
    ]
    assert table == [UNKNOWN if value is None else percent(value) for value in told]


def test_a_decision_stands_with_target_and_forecast(web, results, opened):
    web.publish(results.event())
    web.publish(results.measured())
    web.publish(results.decision())
    window = opened(web.url)
    window.wait_for("document.getElementById('target').textContent === '→ 2 %'")
    assert window.text("number") == "3.4 %"
    assert window.text("forecast") == "About 18 s more (11 or more)"


def test_old_data_are_greyed_out(web, results, opened, clock):
    web.publish(results.event())
    web.publish(results.snapshot())
    window = opened(web.url)
    window.wait_for("document.getElementById('frame').textContent.startsWith('412')")
    assert window.page.get_attribute("body", "class") in (None, "")
    clock.advance(3)
    web.publish(results.status())
    window.wait_for("document.body.classList.contains('stale')")
    (age,) = (bad for text, bad in window.chips().items() if text.startswith("data age"))
    assert age
    assert "grayscale" in window.page.eval_on_selector("main", "one => getComputedStyle(one).filter")
    web.publish(results.snapshot(413))
    window.wait_for("!document.body.classList.contains('stale')")


def test_data_that_stop_coming_are_greyed_out_by_the_page_itself(web, results, opened):
    web.publish(results.event())
    web.publish(results.snapshot())
    window = opened(web.url)
    window.wait_for("document.getElementById('frame').textContent.startsWith('412')")
    window.wait_for("document.body.classList.contains('stale')")


def test_it_says_that_the_daemon_is_gone_and_finds_the_next_one(web, results, opened, clock):
    web.publish(results.event())
    web.publish(results.snapshot())
    window = opened(web.url)
    window.wait_for("document.getElementById('word').textContent === 'MEASURING'")
    web.close()
    window.wait_for("document.getElementById('word').textContent === 'NO CONNECTION'")
    assert "What stands here is what it said last" in window.text("sentence")
    assert window.text("frame").startswith("412")
    restarted = WebPublisher(web.url.removeprefix("http://"), clock, list)
    restarted.open()
    try:
        restarted.publish(results.status("waiting"))
        window.wait_for("document.getElementById('word').textContent === 'WAITING'")
        assert window.text("frame") == UNKNOWN
    finally:
        restarted.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(web, results, opened, scheme):
    web.publish(results.event())
    web.publish(results.measured())
    window = opened(web.url, color_scheme=scheme)
    window.wait_for("document.getElementById('word').textContent === 'MEASURING'")
    paper = luminance(window, "html", "backgroundColor")
    assert (paper > 0.5) == (scheme == "light")
    for name in ("#word", "#sentence", "#number", "#chips li"):
        ink = luminance(window, name, "color")
        contrast = (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05)
        assert contrast > 4.5, name


def luminance(window, selector, style):
    """Relative luminance as WCAG 2 defines it, 0 to 1."""
    shown = window.page.eval_on_selector(selector, f"one => getComputedStyle(one).{style}")
    channels = [int(channel) / 255 for channel in re.findall(r"\d+", shown)[:3]]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_everything_can_be_reached_and_done_with_the_keyboard(web, results, opened):
    web.publish(results.event())
    web.publish(results.rows())
    web.publish(results.measured())
    window = opened(web.url)
    window.page.wait_for_selector("#legend button")
    reached = tabbed(window)
    assert {"INPUT spottiness_rings", "BUTTON each frame", "SUMMARY Details"} <= set(reached)
    window.page.focus("input[value=spottiness_rings]")
    with window.page.expect_response(lambda answer: answer.url.endswith("measure=spottiness")):
        window.page.keyboard.press("ArrowRight")
    window.page.focus("summary")
    window.page.keyboard.press("Enter")
    assert window.page.is_visible("#numbers")
    window.page.focus("#legend button >> nth=0")
    window.page.keyboard.press("Space")
    assert window.page.get_attribute("#legend button >> nth=0", "aria-pressed") == "false"


def tabbed(window, n=30):
    """What the tabulator reaches, with what it shows."""
    said = "(one => `${one.tagName} ${one.value || one.textContent.trim()}`)(document.activeElement)"
    reached = []
    for _ in range(n):
        window.page.keyboard.press("Tab")
        reached.append(window.page.evaluate(said))
    return reached


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080), (390, 844)])
def test_nothing_overlaps_and_nothing_is_cut_off(web, results, opened, width, height):
    published_profiles(web, results)
    web.publish(results.rows())
    web.publish(results.measured())
    web.publish(results.decision())
    web.show(SmallImage(results.origin, TIME_NS, 412, np.ones((8, 8), np.float32), np.zeros((8, 8), np.uint16)))
    window = opened(web.url, viewport={"width": width, "height": height})
    for drawn in ("#plot canvas", "#profiles-plot canvas", "#picture"):
        window.page.wait_for_selector(drawn)
    assert window.page.evaluate("document.documentElement.scrollWidth") <= width
    parts = {one: window.page.locator(one).bounding_box() for one in PARTS}
    for (one, a), (other, b) in combinations(parts.items(), 2):
        assert are_apart(a, b), (one, other)
    for box in parts.values():
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["height"] > 10


def are_apart(a, b):
    """Whether two boxes have nothing in common, but for a rounded pixel."""
    starts = [max(a[axis], b[axis]) for axis in ("x", "y")]
    ends = [min(box[axis] + box[size] for box in (a, b)) for axis, size in (("x", "width"), ("y", "height"))]
    return any(end - start <= 1 for start, end in zip(starts, ends, strict=True))


def published_profiles(web, results, later_ns=0):
    """A peak on a background; the median means little."""
    radial = np.linspace(1, 40, 400)
    peak = 100 * np.exp(-(((radial - 12) / 0.2) ** 2)) + 1
    event = replace(results.event(), radial=radial, edges=np.append(radial, 40.1))
    web.publish(event)
    for kind, factor in (("mean", 1.0), ("sigma_clip", 0.9), ("quantile", 0.8), ("median_clip", 0.85)):
        columns = dict.fromkeys(("intensity", "std", "sem", "signal", "variance", "normalization"), factor * peak)
        warning = "most bins have fewer than 20 counts a pixel" if kind == "quantile" else None
        blank = results.profile(kind, "accumulated", bins=400)
        web.publish(
            replace(blank, radial=radial, time_ns=TIME_NS + later_ns, **columns, count=np.ones(400), warning=warning)
        )


def test_profiles_are_drawn_and_a_doubtful_one_says_why(web, results, opened):
    published_profiles(web, results)
    window = opened(web.url)
    window.page.wait_for_selector("#profiles-legend button")
    names = window.page.eval_on_selector_all("#profiles-legend button", "all => all.map(one => one.textContent)")
    assert names == ["mean", "sigma-clip", "median", "median-clip"]
    assert "off" in window.page.get_attribute("#profiles-legend button >> nth=2", "class")
    assert window.text("profiles-warning") == "median: most bins have fewer than 20 counts a pixel"
    assert window.page.is_visible("#profiles-plot canvas")


def test_a_profile_is_zoomed_by_dragging_and_a_double_click_brings_all_back(web, results, opened):
    published_profiles(web, results)
    window = opened(web.url, viewport={"width": 1280, "height": 1200})
    over = window.page.wait_for_selector("#profiles-plot .u-over")
    ends = "document.getElementById('profiles-plot').dataset.range"
    whole = window.page.evaluate(ends)
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    middle = box["y"] + box["height"] / 2
    window.page.mouse.move(box["x"] + box["width"] * 0.2, middle)
    window.page.mouse.down()
    window.page.mouse.move(box["x"] + box["width"] * 0.4, middle, steps=4)
    window.page.mouse.up()
    window.wait_for(f"{ends} !== '{whole}'")
    low, high = (float(end) for end in window.page.evaluate(ends).split())
    assert 8 < low < 10
    assert 16 < high < 18
    published_profiles(web, results, later_ns=1)  # what comes in does not take the reader's zoom away
    window.page.wait_for_timeout(2500)
    assert window.page.evaluate(ends) == f"{low} {high}"
    over.dblclick()
    window.wait_for(f"{ends} === '{whole}'")


def test_the_summed_image_is_drawn_with_the_rings(web, results, opened):
    rows, columns = np.indices((60, 80))
    radius = np.hypot(rows - 30, columns - 40)
    counts = np.where(np.abs(radius - 20) < 1, 100.0, 1.0).astype(np.float32)
    counts[:, 10] = np.nan
    table = replace(results.rings(), first=np.array([18, 36]), last=np.array([23, 40]))
    web.publish(results.event(bins=60))
    web.publish(results.measured(412, rings=table))
    web.show(SmallImage(results.origin, TIME_NS, 412, counts, radius.astype(np.uint16)))
    window = opened(web.url)
    window.page.wait_for_selector("#picture")
    assert window.text("image-frames") == "sum of 412 frames"
    window.wait_for(f"{pixel(30, 60)}[2] > 200")  # a ring is drawn in light blue, on the right only
    on_ring, ground, gap = (window.page.evaluate(pixel(30, column)) for column in (20, 35, 10))
    assert on_ring[0] > 200
    assert ground[0] < 60
    assert gap[3] == 0
    window.page.uncheck("#ringed")
    window.wait_for(f"{pixel(30, 60)}[2] < 210")


def pixel(row, column):
    """Red, green, blue and opacity of a pixel of the picture."""
    return f"document.getElementById('picture').getContext('2d').getImageData({column}, {row}, 1, 1).data"


def test_chips_tell_the_conditions_and_are_red_where_they_are_bad(web, results, opened):
    fine = Setup(40_000.0, 40_010.0, "Fri Nov 20 2026", 0.061)
    web.publish(replace(results.event(), setup=fine))
    web.publish(results.snapshot(412, saturated_pixels=2.0))
    window = opened(web.url)
    told = {
        "beam": False,
        "saturated 2 px": False,
        "energy = PONI": False,
        "PONI of Fri Nov 20 2026": False,
        "mask 6.1 %": False,
        "missing 9": True,
    }
    window.wait_for("document.querySelectorAll('#chips li').length > 6")
    assert told.items() <= window.chips().items()
    web.publish(replace(results.event("ready"), setup=replace(fine, poni_energy_eV=35_000.0)))
    web.publish(results.snapshot(413, saturated_pixels=12.0, beam_down_since="03:02:11"))
    window.wait_for("document.getElementById('chips').textContent.includes('beam down')")
    told = {"beam down since 03:02:11", "saturated 12 px", "energy 40.00 keV ≠ PONI 35.00 keV"}
    assert told <= {text for text, bad in window.chips().items() if bad}


def test_a_page_opened_after_720_000_frames_is_there_at_once(web, results, opened):
    web.publish(results.event())
    for first in range(0, AN_HOUR, AN_HOUR // 16):
        web.publish(results.rows(first, AN_HOUR // 16))
        web.publish(results.snapshot(first + AN_HOUR // 16))
    opened(web.url).close()  # the browser itself has begun
    asked_s = time.monotonic()
    window = opened(web.url)
    window.page.wait_for_selector("#plot canvas")
    window.wait_for(f"document.getElementById('frame').textContent.startsWith('{AN_HOUR}')")
    assert time.monotonic() - asked_s < 2
    assert len(httpx2.get(f"{web.url}/api/history").content) < 250_000


def test_pictures_of_the_series_before_are_grey(web, results, other_results, opened):
    published_profiles(web, results)
    web.show(SmallImage(results.origin, TIME_NS, 412, np.ones((8, 8), np.float32), np.zeros((8, 8), np.uint16)))
    window = opened(web.url)
    window.page.wait_for_selector("#picture")
    assert window.page.locator(".old").count() == 0
    web.publish(other_results.event())
    window.page.wait_for_selector("#profiles.old")
    window.page.wait_for_selector("#image.old")
    assert window.page.is_visible("#picture")
