"""Files beside a result file: patterns as text, figures."""

from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from ringwatch.errors import ConfigError
from ringwatch.publish import exports, figure
from ringwatch.publish.exports import Pattern, read_pattern, require, write_exports, write_xye
from ringwatch.publish.hdf5 import Hdf5Publisher
from ringwatch.publish.nexus import decision_columns, frame_columns, snapshot_columns
from ringwatch.publish.result_file import ResultFileError, ResultFileExistsError, write_result

RADIAL = np.array([0.5, 1.0, 1.5, 2.0])


def pattern(unit, radial=RADIAL, wavelength=0.5):
    return Pattern(radial, unit, np.ones(4), np.ones(4), np.ones(4), wavelength)


@pytest.fixture
def path(tmp_path, results):
    path = tmp_path / "LaB6_000017.h5"
    mean = results.profile(source="accumulated", n_frames=5)
    mean = replace(mean, count=np.array([3.0, 0, 5, 6]), sem=np.array([0.1, 0, 0, 0.25]))
    clipped = replace(mean, kind="sigma_clip", intensity=mean.intensity / 2)
    write_result(
        path, results.result(), config="{}", profiles=[mean, clipped, results.profile(source="union", n_frames=5)],
        frames=[frame_columns(results.rows(0, 5))], snapshots=[snapshot_columns(results.measured(5))],
        decisions=[decision_columns(results.decision(5))],
    )  # fmt: skip
    return path


def test_a_pattern_is_text_without_header_and_without_bins_that_would_have_an_infinite_weight(path):
    written = write_xye(path)
    shown = read_pattern(path)
    assert written == path.with_suffix(".xye")
    found = np.loadtxt(written)
    np.testing.assert_allclose(found, np.column_stack([shown.radial, shown.intensity, shown.sem])[[0, 3]], rtol=1e-6)
    first = written.read_text().splitlines()[0].split()
    assert [float(word) for word in first] == pytest.approx([shown.radial[0], shown.intensity[0], 0.1])


def test_other_profiles_have_their_kind_in_the_name(path):
    written = write_xye(path, "sigma_clip")
    assert written.name == "LaB6_000017_sigma_clip.xye"
    assert np.loadtxt(written)[:, 1] == pytest.approx(read_pattern(path).intensity[[0, 3]] / 2)
    with pytest.raises(ResultFileError, match="holds no quantile profile"):
        write_xye(path, "quantile")


@pytest.mark.parametrize(
    ("unit", "radial"),
    [
        ("2th_deg", RADIAL),
        ("2th_rad", np.radians(RADIAL)),
        ("q_A^-1", 4 * np.pi / 0.5 * np.sin(np.radians(RADIAL / 2))),
        ("q_nm^-1", 40 * np.pi / 0.5 * np.sin(np.radians(RADIAL / 2))),
    ],
)
def test_two_theta_is_in_degrees_whatever_the_axis(unit, radial):
    np.testing.assert_allclose(pattern(unit, radial).two_theta_deg, RADIAL, rtol=1e-14)


@pytest.mark.parametrize(("unit", "wavelength"), [("r_mm", 0.5), ("q_A^-1", None)])
def test_where_no_angle_follows_it_is_said(unit, wavelength):
    with pytest.raises(ValueError, match="no scattering angle follows from a radial axis in "):
        _ = pattern(unit, wavelength=wavelength).two_theta_deg


def test_nothing_is_overwritten_and_nothing_is_left_over(path):
    write_exports(path, ["xye"])
    with pytest.raises(ResultFileExistsError, match="xye: exists already"):
        write_exports(path, ["xye"])
    assert sorted(file.name for file in path.parent.iterdir()) == ["LaB6_000017.h5", "LaB6_000017.xye"]


def test_what_is_no_result_is_refused(tmp_path):
    other = tmp_path / "other.h5"
    other.write_bytes(b"no HDF5")
    for kind in ("xye", "png"):
        with pytest.raises(ResultFileError, match=r"other\.h5"):
            write_exports(other, [kind])
    with pytest.raises(ResultFileError, match="no such file"):
        write_exports(tmp_path / "absent.h5", ["xye"])
    assert list(tmp_path.iterdir()) == [other]


def test_a_figure_shows_profiles_convergence_image_and_what_was_decided(path, monkeypatch):
    drawn = []
    fill = figure._fill
    monkeypatch.setattr(figure, "_fill", lambda canvas, *rest: (drawn.append(canvas), fill(canvas, *rest)))
    (written,) = write_exports(path, ["png"])
    assert written.read_bytes().startswith(b"\x89PNG")
    profiles, convergence, image = drawn[0].axes
    assert [line.get_label() for line in profiles.lines] == ["mean", "sigma_clip"]
    mean = read_pattern(path).intensity
    np.testing.assert_array_equal(profiles.lines[0].get_ydata(), np.where([1, 0, 1, 1], mean, np.nan))
    assert [line.get_label() for line in convergence.lines][-1] == "1/√N"
    assert convergence.lines[0].get_ydata().size == 5
    assert image.images[0].get_array().shape == (8, 8)
    assert "LaB6, series 17" in drawn[0].get_suptitle()
    assert "Keep measuring" in drawn[0].get_suptitle()


def test_without_matplotlib_a_figure_is_refused_before_anything_is_measured(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("ringwatch.extras.import_module", missing)
    require(["xye"])
    with pytest.raises(ConfigError, match=r"a figure needs matplotlib: pip install 'ringwatch\[plot\]'"):
        require(["png"])


def test_the_daemon_writes_them_beside_each_file_and_goes_on_where_it_cannot(tmp_path, clock, results, monkeypatch):
    publisher = Hdf5Publisher(tmp_path, "{series}", 5.0, "{}", clock, also=("xye",))
    publisher.open()
    messages = [results.event(), results.rows(), results.profile(source="accumulated", n_frames=3), results.result()]
    for message in messages:
        publisher.publish(message)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["17.h5", "17.xye"]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports.np, "savetxt", full)
    with capture_logs() as logs:
        for message in messages:
            publisher.publish(replace(message))
    publisher.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["17.h5", "17.xye", "17_2.h5"]
    assert "No space left on device" in logs[0]["problem"]
