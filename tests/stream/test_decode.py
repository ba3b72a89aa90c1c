import numpy as np
import pytest
from wire import array, pixels, v1_end, v1_header, v1_image, v2_end, v2_image, v2_start

from ringwatch.errors import MalformedMessage
from ringwatch.messages import Frame, SeriesEnd, SeriesStart
from ringwatch.stream.decode import MAX_PARTS, decode

IMAGE = pixels()


def test_each_message_is_recognised_on_its_own() -> None:
    data: dict[str, object] = {"threshold_1": array(IMAGE)}
    v1 = [v1_header(), v1_image(IMAGE), v1_end()]
    v2 = [
        [v2_start()],
        [v2_image(data)],
        [v2_end()],
        [v2_start(False)],
        [v2_image(data, tagged=False)],
        [v2_end(False)],
    ]
    kinds = [type(decode([memoryview(part) for part in parts], 0.0)) for parts in v1 + v2]
    assert kinds == [SeriesStart, Frame, SeriesEnd] * 3


def test_white_space_before_json_is_no_harm() -> None:
    assert decode([b" \n" + v1_end()[0]], 0.0) == SeriesEnd(1)


def test_the_channel_reaches_the_decoder() -> None:
    data: dict[str, object] = {"a": array(IMAGE), "b": array(IMAGE + 1)}
    message = decode([v2_image(data)], 0.0, "b")
    assert isinstance(message, Frame)
    np.testing.assert_array_equal(np.frombuffer(message.data, "<u2"), (IMAGE + 1).ravel())


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "parts"),
        ([b"{}"] * (MAX_PARTS + 1), "parts"),
        ([b""], "protocol"),
        ([b"\x00\x01"], "protocol"),
        ([b"\xd9\xd9"], "protocol"),
        ([b"[1]"], "protocol"),
    ],
)
def test_anything_else_is_malformed(parts: list[bytes], reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(parts, 0.0)
    assert caught.value.reason == reason
