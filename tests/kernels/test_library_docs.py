"""The examples of docs/library.md run, and give what the text says."""

from pathlib import Path

import numpy as np
import pytest

from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.integrator import Integrator
from tests.kernels import synthetic
from tests.kernels.test_regrouping import PONI, SHAPE

LIBRARY = Path(__file__).parents[2] / "docs" / "library.md"


def example(heading: str) -> str:
    """The indented lines below a heading."""
    section = LIBRARY.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))


def test_patterns_their_union_and_the_summed_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "detector.poni").write_text(PONI)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    frames = synthetic.frames(11, SHAPE, np.dtype("u2"), 300)
    names = {"frames": (frame for frame in frames)}
    head, marker, tail = example("Patterns, their union, the summed image").partition("image = ")
    exec(head, names)  # noqa: S102 - our own page
    names["frames"] = (frame for frame in frames)
    exec(marker + tail, names)  # noqa: S102 - likewise

    direct = Integrator(Geometry.from_poni(PONI, bins=24))
    np.testing.assert_array_equal(names["union"].words, direct.integrate(frames[:2]).words)
    np.testing.assert_array_equal(names["image"].union.words, direct.integrate(frames).words)
    assert len(names["patterns"]) == 11


def test_cake_and_rebinning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "detector.poni").write_text(PONI)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    frames, more_frames = np.split(synthetic.frames(5, SHAPE, np.dtype("u2"), 300), [3])
    names = {"frames": frames, "more_frames": more_frames}
    exec(example("Cake and rebinning"), names)  # noqa: S102 - our own page

    rings = Geometry.from_poni(PONI, bins=24)
    assert names["image"].shape == (24, 36)
    assert len(names["brightest"]) == 2
    for name, geometry in {"whole": rings, "quarter": rings.arc(0, 90), "coarse": rings.coarser(4)}.items():
        found, expected = names[name], Integrator(geometry).integrate(frames)
        assert found.digest == expected.digest
        np.testing.assert_array_equal(found.words, expected.words)
    exec(example("Profiles without outliers"), names)  # noqa: S102 - likewise
    assert names["clipped"].shape == (3, 24)
    assert set(names["found"]) == {"sigma_clip", "quantile", "median_clip"}
    np.testing.assert_array_equal(
        names["union"].words, Integrator(rings).integrate(np.concatenate([frames, more_frames])).words
    )
