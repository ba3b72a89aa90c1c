"""Whatever a detector or a script calls a sample, its file is a plain one in the folder of the results."""

import re
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from ringwatch.config.values import _file_name
from ringwatch.messages import MAX_FRAME_ID
from ringwatch.publish.file_names import file_stem, final_path, free_name, live_path

NASTY = [
    "../", "..", "/", "\\", "\0", "\n", "\r\n", "CON", "NUL", "~", "%2e%2e%2f", "{series.__class__}", "{0}", "\ud800",
    "\u202e", "\u0130", "\ufb00", "\xe9", "-rf", ".live", ".h5", "x" * 300,
]  # fmt: skip
SAMPLES = st.lists(st.sampled_from(NASTY) | st.text(max_size=40), max_size=8).map("".join)
TEMPLATES = st.lists(
    st.sampled_from(["{sample}", "{series}", "{series:06d}", "_", ".", "-", "..", "\n", "ü"]), min_size=1, max_size=8
).map("".join)


def is_allowed(template: str) -> bool:
    try:
        _file_name(template)
    except ValueError:
        return False
    return True


@given(SAMPLES, st.integers(-MAX_FRAME_ID, MAX_FRAME_ID), TEMPLATES)
def test_a_name_is_a_plain_file_of_the_folder(sample: str, series: int, template: str) -> None:
    assume(is_allowed(template))
    stem = file_stem(template, sample, series)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", stem, re.ASCII)
    folder = Path("/data/results")
    for path in (final_path(folder, stem), live_path(folder, stem)):
        assert path.parent == folder
        assert Path(str(path)).resolve().parent == folder
        assert len(path.name.encode()) <= 255


@given(SAMPLES)
def test_a_name_that_is_taken_is_never_given_again(tmp_path_factory, sample: str) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("results")
    stem = file_stem("{sample}_{series:06d}", sample, 1)
    for _ in range(3):
        name = free_name(folder, stem)
        path = live_path(folder, name) if len(name) % 2 else final_path(folder, name)
        path.touch(exist_ok=False)
