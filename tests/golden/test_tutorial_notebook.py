"""docs/tutorial.ipynb runs, with few frames, and shows what its text says; it holds no outputs and no paths."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ringwatch.stream.powder import TUTORIAL

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]
N_FRAMES = 5
COARSE = {
    "N_FRAMES": N_FRAMES,
    "BINS": 500,
    "POWDER": replace(TUTORIAL, detector="Detector", shape=(540, 517), pixel_size_m=300e-6, dead_fraction=1e-3),
}
"""The tutorial's detector with sixteen pixels in one."""

Names = dict[str, Any]


def run(**parameters: Any) -> Names:
    """Names that the code leaves behind; what the cell tagged "parameters" sets is replaced, as papermill does."""
    from matplotlib import pyplot as plt

    plt.close("all")
    names: Names = {}
    for cell in CELLS:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"<{cell['id']}>", "exec"), names)  # noqa: S102 - our own notebook
        if "parameters" in cell["metadata"].get("tags", ()):
            assert parameters.keys() <= names.keys()
            names |= parameters
    return names | {"figures": len(plt.get_fignums())}


@pytest.fixture(scope="module", autouse=True)
def _nothing_on_the_screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("Agg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("RINGWATCH_TUTORIAL", raising=False)
        yield
    plt.close("all")


@pytest.fixture(scope="module")
def names(_nothing_on_the_screen: None) -> Names:
    return run(**COARSE)


def test_bad_pixels_are_a_trap_and_only_there(names: Names) -> None:
    trapped, first = names["trapped"].profile, names["first"].profile
    bad = trapped.count - first.count
    assert bad.sum() == (names["first_frame"] == 65535)[~names["rings"].mask].sum() > 0
    np.testing.assert_array_equal(trapped.signal - first.signal, 65535 * bad)


def test_the_union_of_one_frame_with_itself_falls_and_its_summed_image_does_not(names: Names) -> None:
    once = float(names["single"][0].plain)
    assert float(names["repeated"][-1].plain) == pytest.approx(once / np.sqrt(N_FRAMES), rel=0.01)
    assert float(names["integrator"].spottiness(names["still"].profile).plain) == pytest.approx(once, rel=0.01)
    np.testing.assert_array_equal(names["still"].union.words, (sum([names["first"]] * 4, names["first"])).words)


def test_averaged_and_accumulated_intensities_are_equal_and_errors_are_not(names: Names) -> None:
    assert names["largest"] < 1e-15
    union, averaged = names["union"], names["image"].averaged
    order = np.argsort(union.intensity[names["filled"]])
    ratio = (averaged.sem[names["filled"]] / union.sem[names["filled"]])[order]
    assert np.median(ratio[: ratio.size // 5]) == pytest.approx(1, abs=0.15)  # between the rings
    assert np.median(ratio[-ratio.size // 20 :]) > 1.2


@pytest.mark.skipif("RINGWATCH_FULL" not in os.environ, reason="half a minute: set RINGWATCH_FULL=1 to run it")
def test_frames_of_the_whole_detector_are_as_spotty_as_the_published_ones() -> None:
    whole = run(N_FRAMES=2)
    for name in ("first frame", "first frame, weighted", "second frame", "union of both"):
        found, expected = whole["published"][name]
        assert found == pytest.approx(expected, rel=0.2), name


def test_every_figure_was_drawn(names: Names) -> None:
    assert names["figures"] == 5


def test_recorded_frames_have_to_give_the_published_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that are not those of the tutorial: the assertions notice."""
    path = tmp_path / "eiger_0000.h5"
    with h5py.File(path, "w") as file:
        flat = np.random.default_rng(0).poisson(0.5, (2, 540, 517))
        file.create_dataset("entry/data/data_000001", data=flat.astype(np.uint32), chunks=(1, 540, 517))
    monkeypatch.setenv("RINGWATCH_TUTORIAL", str(path))
    with pytest.raises(AssertionError, match=r"first frame: .* published 0.156"):
        run(**COARSE | {"N_FRAMES": 2})


def test_the_notebook_is_kept_without_outputs_and_paths() -> None:
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    text = NOTEBOOK.read_text()
    assert json.loads(text)["metadata"].keys() == {"kernelspec", "language_info"}
    assert not any(word in text for word in ("/home/", "/tmp", "/root"))  # noqa: S108 - looked for, not used
