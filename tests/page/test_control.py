"""Buttons of the page: only with the token, and they ask for what they say."""

import pytest

from ringwatch.publish.web import WebPublisher
from tests.page.conftest import TOKEN


@pytest.fixture
def window(web, results, opened):
    web.publish(results.event())
    window = opened(web.url)
    window.wait_for("!document.getElementById('control').hidden")
    return window


def names(window):
    """The buttons that are to be seen."""
    buttons = window.page.query_selector_all("#control button")
    return [button.text_content() for button in buttons if button.is_visible()]


def answered(window, **given):
    """Fill in what is asked for, and go."""
    if given:
        window.page.fill("#field", given["text"])
    window.page.press("#go", "Enter")


def unlock(window, token=TOKEN):
    window.page.click("text=Unlock control")
    answered(window, text=token)


def test_without_a_token_in_the_configuration_there_are_no_buttons(results, opened, clock):
    web = WebPublisher("127.0.0.1:0", clock, list)
    web.open()
    try:
        web.publish(results.event())
        window = opened(web.url)
        window.wait_for("document.getElementById('word').textContent === 'MEASURING'")
        assert names(window) == []
    finally:
        web.close()


def test_a_wrong_token_says_so_and_opens_nothing(window, asked):
    for wrong in ("fedcba9876543210", "schlüssel"):
        unlock(window, wrong)
        window.wait_for("document.getElementById('refusal').textContent === 'wrong token'")
        window.page.click("#cancel")
    assert names(window) == ["Unlock control"]
    assert asked == []
    window.complaints[:] = [text for text in window.complaints if "403" not in text]  # the browser's own words


def test_the_buttons_ask_for_what_they_say(window, asked):
    unlock(window)
    window.wait_for("document.getElementById('answer').textContent === 'Done: token.'")
    assert names(window) == ["Keep measuring", "Stop now", "New sample"]
    for button, order in (("Keep measuring", "hold"), ("Stop now", "stop")):
        window.page.click(f"#control >> text={button}")
        assert asked[-1][0] != order, "before it is confirmed"
        answered(window)
        window.wait_for(f"document.getElementById('answer').textContent === 'Done: {order}.'")
    window.page.click("#control >> text=New sample")
    answered(window, text="LaB6 <b>")
    window.wait_for("document.getElementById('answer').textContent === 'Done: sample.'")
    assert asked == [("token", {}), ("hold", {}), ("stop", {}), ("sample", {"sample": "LaB6 <b>"})]


def test_a_question_can_be_left_with_the_keyboard(window, asked):
    unlock(window)
    window.page.click("#control >> text=Stop now")
    window.page.keyboard.press("Escape")
    window.wait_for("!document.getElementById('ask').open")
    assert asked == [("token", {})]


def test_the_token_stays_in_the_tab_and_nowhere_else(window):
    unlock(window)
    window.wait_for("document.getElementById('answer').textContent !== ''")
    window.page.reload()
    window.wait_for("!document.getElementById('control').hidden")
    assert "Stop now" in names(window)
    assert window.page.evaluate("localStorage.length") == 0
    assert window.page.evaluate("document.cookie") == ""
    assert not any(TOKEN in url for url in window.requested)
