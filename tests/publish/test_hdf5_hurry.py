"""The daemon stops in the middle of a long series: the complete file is there in time, with what fits into the time."""

import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
from structlog.testing import capture_logs

from ringwatch.messages import FrameProfiles
from ringwatch.publish import live_file
from ringwatch.publish.hdf5 import Hdf5Publisher
from ringwatch.publish.nexus import FRAME_COLUMNS
from ringwatch.publish.outlet import Outlet
from ringwatch.publish.result_file import read_result

BINS = 4
N_FRAMES = 60
LIVE, COMPLETE = "LaB6_000017.live.h5", "LaB6_000017.h5"


@pytest.fixture(params=["profiles", "sums"])
def publisher(request, tmp_path, clock, results):
    publisher = Hdf5Publisher(tmp_path, "{sample}_{series:06d}", 5.0, "{}", clock, request.param)
    publisher.open()
    publisher.publish(replace(results.event(bins=BINS), sums_shape=(6, 2)))
    for first in range(0, N_FRAMES, 3):
        publisher.publish(results.profiled(first, 3))
        publisher.publish(results.snapshot(first + 3))
    publisher.publish(results.decision())
    publisher.publish(results.profile())
    yield publisher
    publisher.close()


def wide(publisher):
    return {"profiles": {"intensity", "sem"}, "sums": {"sums"}}[publisher._stored]


def ended(results):
    return replace(results.result(), reason="shutdown", n_frames=N_FRAMES)


def test_what_cannot_be_copied_in_time_stays_in_the_live_file_and_both_say_so(
    publisher, tmp_path, results, monkeypatch
):
    monkeypatch.setattr(live_file, "COPY_BYTES_PER_S", 100)
    publisher.hurry(1.0)
    with capture_logs() as logs:
        publisher.publish(ended(results))
    assert sorted(path.name for path in tmp_path.iterdir()) == [COMPLETE, LIVE]
    result = read_result(tmp_path / COMPLETE)
    assert result.n_frames == N_FRAMES
    assert result.sums is not None
    assert result.frames["frame"].tolist() == list(range(N_FRAMES))
    with h5py.File(tmp_path / COMPLETE) as complete, h5py.File(tmp_path / LIVE) as live:
        assert set(complete["entry/frames"]) == set(FRAME_COLUMNS)
        assert complete["entry/frames"].attrs["profiles_in"] == LIVE
        assert live["entry/complete_file"][()].decode() == COMPLETE
        for part in ("snapshots/n_frames", "decisions/n_frames", "image/sum", "profiles/mean_union/intensity"):
            assert complete[f"entry/{part}"].size
        for name in wide(publisher):
            assert len(live[f"entry/frames/{name}"]) == N_FRAMES
    (said,) = [log for log in logs if log["log_level"] == "warning"]
    assert said["event"] == "profiles of single frames stay in the live file"
    assert (said["file"], said["live"]) == (str(tmp_path / COMPLETE), str(tmp_path / LIVE))


def test_with_time_enough_nothing_is_left_out(publisher, tmp_path, results):
    publisher.hurry(10.0)
    publisher.publish(ended(results))
    assert [path.name for path in tmp_path.iterdir()] == [COMPLETE]
    with h5py.File(tmp_path / COMPLETE) as complete:
        assert wide(publisher) <= set(complete["entry/frames"])
        assert "profiles_in" not in complete["entry/frames"].attrs


def test_a_hurry_that_comes_while_a_file_is_written_makes_it_shorter(publisher, tmp_path, results, monkeypatch):
    monkeypatch.setattr(live_file, "COPY_BYTES_PER_S", 0)
    monkeypatch.setattr(live_file.nexus, "BLOCK_BYTES", 1000)
    blocks = live_file.nexus.blocks
    copied = []

    def watched(table, names=None):
        for rows in blocks(table, names):
            if (names is None and "intensity" in rows) or "sums" in rows:
                copied.append(len(rows["frame"]))
                if len(copied) == 2:
                    publisher.hurry(1.0)
            yield rows

    monkeypatch.setattr(live_file.nexus, "blocks", watched)
    publisher.publish(ended(results))
    assert len(copied) == 2
    assert read_result(tmp_path / COMPLETE).frames["frame"].tolist() == list(range(N_FRAMES))
    assert (tmp_path / LIVE).exists()
    with h5py.File(tmp_path / COMPLETE) as complete:
        assert set(complete["entry/frames"]) == set(FRAME_COLUMNS)


def test_the_next_series_of_that_name_overwrites_neither(publisher, tmp_path, results, monkeypatch):
    monkeypatch.setattr(live_file, "COPY_BYTES_PER_S", 0)
    publisher.hurry(1.0)
    publisher.publish(ended(results))
    again = Hdf5Publisher(tmp_path, "{sample}_{series:06d}", 5.0, "{}")
    for result in (results.event(), results.rows(), results.result()):
        again.publish(result)
    assert sorted(path.name for path in tmp_path.iterdir()) == [COMPLETE, LIVE, "LaB6_000017_2.h5"]


def test_thirty_thousand_frames_end_within_two_seconds(tmp_path, results):
    """No clock is held still here: the disk is this machine's."""
    bins, n_frames, step = 800, 30_000, 1000
    publisher = Hdf5Publisher(tmp_path, "{sample}_{series:06d}", 0.5, "{}", stored="profiles")
    outlet = Outlet(publisher)
    outlet.start()
    outlet.put(results.event(bins=bins))
    profile = np.random.default_rng(1).random((step, bins), dtype=np.float32)
    for first in range(0, n_frames, step):
        outlet.put(replace(results.rows(first, step), profiles=FrameProfiles("mean", profile, profile)))
        outlet.put(results.snapshot(first + step))
    while not outlet.is_idle:
        time.sleep(0.01)
    image = np.ones((2167, 2070), np.int64)
    last = replace(ended(results), n_frames=n_frames, image_sum=image, image_lost=image.astype(np.uint32))
    begin_s = time.monotonic()
    outlet.put(last)
    publisher.hurry(1.8)
    outlet.leave(1.8)
    assert outlet.join()
    assert time.monotonic() - begin_s < 2.0
    assert len(read_result(tmp_path / COMPLETE).frames["frame"]) == n_frames
    with h5py.File(tmp_path / LIVE) as live:
        assert live["entry/frames/intensity"].shape == (n_frames, bins)
        assert np.array_equal(live["entry/frames/sem"][-1], profile[-1])
