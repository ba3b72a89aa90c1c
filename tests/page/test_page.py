"""The page in a browser: what stands there is what was published."""

import re

import httpx2
import pytest

from ringwatch.publish.web import WebPublisher


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
    assert table == ["–" if value is None else percent(value) for value in told]


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
        assert window.text("frame") == "–"
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
    web.publish(results.event())
    web.publish(results.rows())
    web.publish(results.measured())
    web.publish(results.decision())
    window = opened(web.url, viewport={"width": width, "height": height})
    window.page.wait_for_selector("#plot canvas")
    assert window.page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = "all => all.map(one => one.getBoundingClientRect()).map(({top, bottom, width}) => [top, bottom, width])"
    parts = window.page.eval_on_selector_all("header, .verdict, .curves, .profiles, details, footer", boxes)
    shown = [part for part in parts if part[2]]
    if width < 500:
        assert all(above[1] <= below[0] + 1 for above, below in zip(shown, shown[1:], strict=False))
    assert window.page.is_visible("#number")
