"""A device that fails at random, wherever it is used: every frame has one fate, and is in one result at most."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from tests.conftest import FakeClock
from tests.reduction.test_device_faults import FAULTS
from tests.reduction.test_resume import SAVING, SHAPE, Fed, Maker, files, reduction

from ringwatch.config import WindowConfig
from ringwatch.messages import Frame, SeriesEnd, SeriesResult, SeriesStart, StreamMessage
from ringwatch_gpu import devices
from ringwatch_gpu.batch import BatchIntegrator

__all__ = ["files", "reduction"]
WHERE = ("__init__", "integrate", "sector_sums", "evaluate_image", "read_image", "restore_image", "clear")
WINDOWS = [WindowConfig(), WindowConfig(kind="every", frames=1), WindowConfig(kind="every", frames=3)]
U4 = np.dtype("u4")


def series(number: int, random: Random) -> Iterator[list[StreamMessage]]:
    """Of up to eleven frames, some of them not to be decoded, in batches; pixels of frame k count 2^k."""
    name, has_shape = f"s{number}", random.random() < 0.6
    start = SeriesStart(number, name, shape=SHAPE if has_shape else None, dtype=U4 if has_shape else None)
    yield [start]
    n_frames, first = random.randrange(12), 0
    while first < n_frames:
        last = min(first + random.randrange(1, 5), n_frames)
        data = [b"x" if random.random() < 0.1 else np.full(SHAPE, 1 << k, U4).tobytes() for k in range(first, last)]
        frames = [Frame(number, first + k, SHAPE, U4, "none", pixels, name) for k, pixels in enumerate(data)]
        start.fates.received += len(frames)
        yield [*frames]
        first = last
    yield [SeriesEnd(number, name)]


def frames_in(result: SeriesResult) -> int:
    """As bits: a frame that was added twice would be the next one."""
    assert result.sums is not None
    signal, count = (sum(int(high) << 64 | int(low) for high, low in result.sums[row]) for row in (0, 5))
    return signal * result.n_frames // count


def play(fed: Fed, batches: list[list[StreamMessage]], random: Random, clock: FakeClock) -> None:
    for batch in batches:
        clock.advance(random.choice([0.0, 0.3, 1.0]))
        if random.random() < 0.05:
            fed.reduction.begin_anew()
        fed.feed(batch)


@pytest.mark.parametrize("seed", range(12))
def test_every_frame_has_one_fate_and_is_in_one_result_at_most(
    reduction: Maker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - faults are to be repeatable
    scope = random.choice(["series", "sample"])
    fed = reduction(replace(SAVING, scope=scope, window=random.choice(WINDOWS if scope == "series" else WINDOWS[:1])))
    monkeypatch.setattr(devices, "spare", lambda failed: failed)
    monkeypatch.setattr("ringwatch.reduction.ladder._is_cpu", lambda failed: False)
    batches = [batch for number in range(1, 5) for batch in series(number, random)]
    with monkeypatch.context() as failing:
        for name in WHERE:
            failing.setattr(BatchIntegrator, name, _failing(getattr(BatchIntegrator, name), random))
        play(fed, batches, random, clock)
    fed.reduction.conclude("shutdown")
    starts = [message for batch in batches for message in batch if isinstance(message, SeriesStart)]
    results = [result for result in fed.published if isinstance(result, SeriesResult)]
    assert [start.fates.received for start in starts] == [start.fates.settled for start in starts]
    assert sum(result.n_frames for result in results) == sum(start.fates.reduced for start in starts)
    assert not fed.reduction.is_measuring
    for start in starts if scope == "series" else []:
        found = [frames_in(result) for result in results if result.origin.series == start.series]
        assert sum(frames.bit_count() for frames in found) == sum(found).bit_count() == start.fates.reduced


def _failing(sound: Any, random: Random) -> Any:
    def failing(*args: Any, **kwargs: Any) -> Any:
        if random.random() < 0.04:
            raise FAULTS[0]
        return sound(*args, **kwargs)

    return failing
