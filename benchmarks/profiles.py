"""What split pixels and the profiles without outliers cost: 4M frames of the tutorial preset, 1000 and 2000 bins.

For each step core-milliseconds and milliseconds, medians of several turns, and the least core-milliseconds of them:
others may use the processor as well. `python benchmarks/profiles.py [PLATFORM]`; without one, such as Intel, on the
device that the daemon would use.
"""

import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

from threadpoolctl import threadpool_limits

from ringwatch.stream.powder import TUTORIAL, pixel_mask
from ringwatch.stream.simulator import Simulator
from ringwatch_gpu import Geometry, Rejection, SigmaClip, devices
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.rejection import NO_REJECTION
from ringwatch_gpu.tables import BATCH
from ringwatch_gpu.validity import Validity

BINS = (1000, 2000)
TURNS = 15
BATCHES = 4
"""Summed up before the profiles are made."""
REJECTIONS = {
    "sigma_clip": Rejection(SigmaClip(), None, median_clip=False),
    "quantile": Rejection(None, (0.5, 0.5), median_clip=False),
    "median_clip": Rejection(None, None, median_clip=True),
    "all three": Rejection(),
}
DEVICE = devices.choose(*sys.argv[1:2])
VALIDITY = Validity.of(TUTORIAL.dtype, [TUTORIAL.dummy])


def integrator(
    bins: int, splitting: str = "no", rejection: Rejection = NO_REJECTION, *, tells_noise: bool = False
) -> BatchIntegrator:
    """One that has summed up some batches."""
    geometry = Geometry.from_poni(TUTORIAL.poni(), bins=bins, splitting=splitting).masked(pixel_mask(TUTORIAL))
    made = BatchIntegrator(geometry, TUTORIAL.dtype, DEVICE, rejection=rejection, tells_noise=tells_noise)
    simulator = Simulator(TUTORIAL, 1)
    for _ in range(BATCHES):
        for slot in made.slots:
            slot[...] = simulator.frame()
        made.integrate(BATCH, VALIDITY)
    return made


def steps(bins: int) -> Iterator[tuple[str, float, Callable[[], object]]]:
    """Name, number of frames that the cost is divided by, and what is timed."""
    for splitting in ("no", "bbox", "full"):
        made = integrator(bins, splitting)
        yield f"a frame, splitting {splitting}", BATCH, lambda made=made: made.integrate(BATCH, VALIDITY)
    noisy = integrator(bins, "full", tells_noise=True)
    yield "a frame, splitting full, its noise", BATCH, lambda: noisy.integrate(BATCH, VALIDITY)
    yield "mean of the summed image, split", 1, lambda: made.split_image(BATCHES * BATCH)
    for name, rejection in REJECTIONS.items():
        made = integrator(bins, rejection=rejection)
        yield name, 1, lambda made=made: made.reject_outliers(BATCHES * BATCH)
    yield (
        "all, with the evaluation",
        1,
        lambda: (
            made.evaluate_image(BATCHES * BATCH),
            made.reject_outliers(BATCHES * BATCH),
        ),
    )


def measured(call: Callable[[], object]) -> tuple[float, float, float]:
    """Core-milliseconds and milliseconds of a call, the medians; the least core-milliseconds."""
    call()
    turns = []
    for _ in range(TURNS):
        cpu_s, begin_s = time.process_time(), time.monotonic()
        call()
        turns.append((1e3 * (time.process_time() - cpu_s), 1e3 * (time.monotonic() - begin_s)))
    cores_ms, wall_ms = zip(*turns, strict=True)
    return median(cores_ms), median(wall_ms), min(cores_ms)


def main() -> None:
    """One line a step."""
    threadpool_limits(1, "blas")  # as in the daemon
    print(DEVICE.platform.name)
    for bins in BINS:
        for name, n_frames, step in steps(bins):
            cores_ms, wall_ms, least_ms = (time_ms / n_frames for time_ms in measured(step))
            print(f"{bins} bins  {name:34} {cores_ms:6.2f} core-ms {wall_ms:6.2f} ms  least {least_ms:6.2f} core-ms")


if __name__ == "__main__":
    main()
