"""kernels/rejection.cl: the summed image in, profiles of it that leave outliers out."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .bin_order import LANES, EntryBuffers, SplitPixels, WholePixels, most_entries, order_bytes
from .geometry import Geometry
from .image import ImageBuffers, exposure_type, monitor_constants
from .memory import read
from .monitor import QUANTUM
from .noise import Noise, PixelVariance
from .programs import build
from .sums import ErrorModel, RingProfile

Method = Literal["sigma_clip", "quantile", "median_clip"]

METHODS: tuple[Method, ...] = ("sigma_clip", "quantile", "median_clip")
PIECES = 8
"""A profile can be made in so many pieces of about equally many pixels, with other work in between."""
_CPU_ITEMS = 4 * PIECES
_SUMS = 5
_FIRST_ITEM, _EXPOSURE, _WEIGHT_UNIT, _GAIN, _SHARES = 8, 9, 11, 16, 24  # positions among the arguments
_BYTES_AN_ENTRY = (4, 8, 8, 8, 4, 4)  # norm; scratch memory: signal, weight, ratio, key, list
_LARGEST_WEIGHT_BITS = 62


@dataclass(frozen=True, slots=True)
class SigmaClip:
    """Pixels farther than ``thres`` standard deviations from the mean of their bin are left out, ``max_iter`` times.

    Chauvenet's limit is used where it is larger, so for all bins with ``thres`` 0.
    """

    thres: float = 5.0
    max_iter: int = 5


@dataclass(frozen=True, slots=True)
class Rejection:
    """Which outlier-rejecting profiles are made; ``quantile`` is (lowest, highest), each 0 to 1.

    ``variance`` is that of a pixel, as its noise; None is that of counts.
    ``error_model`` says what their variance is, see `ErrorModel`, and what sigma clipping takes as standard deviation:
    that of the pixels of the bin (azimuthal, hybrid), or that of their counts (poisson).
    """

    sigma_clip: SigmaClip | None = SigmaClip()
    quantile: tuple[float, float] | None = (0.5, 0.5)
    median_clip: bool = True
    variance: PixelVariance | None = None
    error_model: ErrorModel = "azimuthal"

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods that are on."""
        on = (self.sigma_clip is not None, self.quantile is not None, self.median_clip)
        return tuple(method for method, is_on in zip(METHODS, on, strict=True) if is_on)


NO_REJECTION = Rejection(None, None, median_clip=False)


def rejection_program(
    context: cl.Context,
    rejection: Rejection,
    share: bool,
    *,
    signed: bool,
    split: bool = False,
    monitored: bool = False,
) -> cl.Program:
    """The compiled kernels.

    ``share``: the form for GPUs; ``signed``: signals may be negative; ``split``: pixels are split.
    """
    methods = sum(1 << METHODS.index(method) for method in rejection.methods)
    constants: dict[str, int | str] = {
        "LANES": LANES,
        "GROUPED": int(share),
        "METHODS": methods,
        "SIGNED": int(signed),
        "SPLIT": int(split),
        "CLIPS_BY_COUNTS": int(rejection.error_model == "poisson"),
        "VARIANCE_OF_COUNTS": int(rejection.error_model != "azimuthal"),
    }
    constants |= monitor_constants(monitored)
    return build(context, "rejection", constants, before=("bin_sums", "bin_quantiles"))


def rejection_bytes(geometry: Geometry, *, monitored: bool = False) -> tuple[int, ...]:
    """Sizes of the large buffers on the device."""
    entries = most_entries(geometry)
    exposure_bytes = exposure_type(monitored)().itemsize
    return *order_bytes(geometry, exposure_bytes), *(size * entries for size in _BYTES_AN_ENTRY)


def largest_weight(geometry: Geometry) -> int:
    """No bin's norms add up to more in one frame, in quanta."""
    used = geometry.bin_table < geometry.bins
    split = geometry.splitting
    members = geometry.bin_table[used] if split is None else split.entries(np.flatnonzero(used)).bin
    return int(np.bincount(members, minlength=1).max()) * int(geometry.norm_q.max(initial=0))


def weight_unit(largest: int, exposure: int) -> float:
    """What weights are multiplied by, so that those of a bin add up to less than 2^62: 1, or a smaller power of two."""
    return 2.0 ** -max(0, (largest * exposure).bit_length() - _LARGEST_WEIGHT_BITS)


class RejectionKernels:
    """Outlier-rejecting profiles; all memory is taken here, none when they are made.

    ``share`` is the form for GPUs, see kernels/rejection.cl; ``signed``: signals may be negative; with ``monitored``
    frames count for their exposure.
    """

    def __init__(
        self,
        queue: cl.CommandQueue,
        geometry: Geometry,
        image: ImageBuffers,
        rejection: Rejection,
        share: bool,
        *,
        signed: bool,
        monitored: bool = False,
    ) -> None:
        self._queue, self._share, self.rejection, context = queue, share, rejection, queue.context
        self._pixels, self._exposure_type = geometry.pixels, exposure_type(monitored)
        self._norm_quantum = geometry.norm_quantum * (QUANTUM if monitored else 1.0)
        flags, entries = cl.mem_flags, most_entries(geometry)
        sizes = [size * entries for size in _BYTES_AN_ENTRY]
        self._norm, *self._scratch = (cl.Buffer(context, flags.READ_WRITE, size) for size in sizes)
        self._sorted = EntryBuffers(queue, geometry, self._exposure_type().itemsize)
        self._items = geometry.bins if share else _CPU_ITEMS
        self._bin_start = cl.Buffer(context, flags.READ_ONLY, 4 * (geometry.bins + 1))
        self._first_bin = cl.Buffer(context, flags.READ_ONLY, 4 * (self._items + 1))
        self._host = np.empty((len(METHODS), geometry.bins, _SUMS))
        self._sums = cl.Buffer(context, flags.WRITE_ONLY, self._host.nbytes)
        is_split = geometry.splitting is not None
        program = rejection_program(context, rejection, share, signed=signed, split=is_split, monitored=monitored)
        self._order: WholePixels | SplitPixels
        if geometry.splitting is None:
            self._order = WholePixels(queue, program, geometry, image, self._sorted)
        else:
            self._order = SplitPixels(queue, geometry, geometry.splitting, image, self._sorted, monitored=monitored)
        self._reject = cl.Kernel(program, "reject")
        self._floors = cl.Buffer(context, flags.READ_ONLY, 8 * geometry.bins)
        exposure, unit, shares = self._exposure_type(0), np.float64(1), [None] * is_split
        self._piece = PIECES
        self._reject.set_args(
            self._sorted.low, self._sorted.high, self._sorted.lost, self._sorted.rare, self._norm,
            self._bin_start, self._first_bin, np.uint32(geometry.bins), np.uint32(0), exposure,
            np.float64(geometry.signal_quantum), unit, *_parameters(rejection), np.float64(1), self._floors,
            *self._scratch, self._sums, *shares,
        )  # fmt: skip
        self.change_mask(geometry)

    def change_mask(self, geometry: Geometry) -> None:
        """Go on with a geometry that differs in its mask only: some 100 ms at 4M pixels."""
        self._largest_weight = largest_weight(geometry)
        noise = Noise.of_parts(geometry, self.rejection.variance)
        self._reject.set_arg(_GAIN, np.float64(noise.gain))
        cl.enqueue_copy(self._queue, self._floors, noise.floor)
        norm, bin_start = self._order.change_mask(geometry)
        if isinstance(self._order, SplitPixels):
            self._reject.set_arg(_SHARES, self._order.shares)
        first_bin = _first_bins(bin_start, self._items)
        for buffer, host in ((self._norm, norm), (self._bin_start, bin_start), (self._first_bin, first_bin)):
            cl.enqueue_copy(self._queue, buffer, host)
        self.clear()

    def clear(self) -> None:
        """The summed image begins anew; what was begun is given up."""
        self._piece = PIECES
        self._order.clear()

    def run(self, exposure: int) -> dict[Method, RingProfile]:
        """Profiles of the summed image, whose frames count for ``exposure`` > 0."""
        self.begin(exposure)
        self._make_pieces(PIECES)
        return self._profiles()

    def begin(self, exposure: int) -> None:
        """Take the summed image as it is now, whose frames count for ``exposure`` > 0; it may change afterwards."""
        self._weight_unit = weight_unit(self._largest_weight, exposure)
        self._reject.set_arg(_EXPOSURE, self._exposure_type(exposure))
        self._reject.set_arg(_WEIGHT_UNIT, np.float64(self._weight_unit))
        self._order.run((self._pixels if self._share else _CPU_ITEMS,), None if self._share else (1,))
        self._queue.finish()
        self._piece = 0

    @property
    def is_under_way(self) -> bool:
        """Whether pieces are left of what was begun."""
        return self._piece < PIECES

    def go_on(self) -> dict[Method, RingProfile] | None:
        """Make the next piece; the profiles once it was the last."""
        self._make_pieces(1)
        return None if self.is_under_way else self._profiles()

    def _make_pieces(self, pieces: int) -> None:
        first, end = (self._items * piece // PIECES for piece in (self._piece, self._piece + pieces))
        group = LANES if self._share else 1
        self._reject.set_arg(_FIRST_ITEM, np.uint32(first))
        if end > first:
            cl.enqueue_nd_range_kernel(self._queue, self._reject, ((end - first) * group,), (group,))
        self._queue.finish()
        self._piece += pieces

    def _profiles(self) -> dict[Method, RingProfile]:
        read(self._queue, (self._host, self._sums))
        quantum = self._norm_quantum / self._weight_unit
        return {method: _profile(self._host[METHODS.index(method)], quantum) for method in self.rejection.methods}


def _first_bins(bin_start: NDArray[np.uint32], items: int) -> NDArray[np.uint32]:
    """Which bins each item takes, about equally many entries: the first of each, and the number of bins."""
    bins = bin_start.size - 1
    if items == bins:
        return np.arange(bins + 1, dtype=np.uint32)
    ends = np.linspace(0, bin_start[-1], items + 1)[1:-1]
    return np.concatenate([[0], np.searchsorted(bin_start, ends), [bins]]).astype(np.uint32)


def _parameters(rejection: Rejection) -> tuple[np.generic, ...]:
    clip, (lowest, highest) = rejection.sigma_clip or SigmaClip(), rejection.quantile or (0.5, 0.5)
    return np.float64(clip.thres), np.uint32(clip.max_iter), np.float64(lowest), np.float64(highest)


def _profile(sums: NDArray[np.float64], quantum: float) -> RingProfile:
    signal, norm, norm_sq, count, variance = sums.T.copy()
    return RingProfile.of(signal, variance, norm * quantum, norm_sq * quantum**2, count)
