"""From the decoded frames of a batch to their exact sums, and to the summed image, on one OpenCL device.

The batch lies in slots that the caller fills; kernels run in a form that suits the device (`lanes`: one frame a vector
lane, for CPUs; `groups`: sorted pixels, work-groups and integer atomics, for GPUs) and give the same bits.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from . import exact, monitor
from .geometry import Geometry
from .groups import GroupKernels, groups_program
from .image import ImageBuffers, ImageEvaluation, evaluation_bytes, image_program
from .lanes import LaneKernels, lanes_bytes, lanes_program
from .lost_exposure import LostExposureKernel
from .memory import Slots, check_memory
from .noise import Noise, PixelVariance
from .programs import context_of
from .reference import ImageSums
from .rejection import NO_REJECTION, Method, Rejection, RejectionKernels, rejection_bytes, rejection_program
from .sectors import SectorKernel, sectors_program
from .signals import PixelFormat
from .small_image import SmallImageKernel
from .split_groups import SplitGroupKernels, split_groups_program
from .split_lanes import SplitLaneKernels, split_lanes_program
from .split_sums import SPLIT_PLANES, SplitFrameSums, SplitImage, image_squares, moved_statics, split_statics
from .sums import FrameSums, RingProfile, StaticSums
from .tables import BATCH, DeviceTables
from .validity import Validity

Form = Literal["lanes", "groups"]

SLOT_SETS = 2
_LARGEST_PRODUCT = 1 << 64
_LARGEST_SIGNED_SQUARE = 0.999 * 2.0**126
_BYTES_A_PIXEL = 41
"""Tables 6, summed image 12, sorted pixels 8; at most 5 for runs within a sector, 10 for runs within a cell."""
_BYTES_A_SPLIT_PIXEL, _BYTES_AN_ENTRY = 6, 20
"""First bin and first entry of a pixel; share, place and norm of an entry, the share again, and at most its segment."""

_BYTES_A_DARK = 4


def default_form(device: cl.Device) -> Form:
    """The kernel form that suits a device."""
    return "groups" if device.type & cl.device_type.GPU else "lanes"


def compile_kernels(
    geometry: Geometry, device: cl.Device, rejection: Rejection = NO_REJECTION, *, tells_noise: bool = False
) -> None:
    """Compile the kernels for the unsigned pixel types, so that no later build waits for the compiler.

    ``tells_noise`` as for `BatchIntegrator`.

    Raises
    ------
    KernelBuildError
    """
    context = context_of(device)
    is_gpu = default_form(device) == "groups"
    program: Callable[[cl.Context, Geometry, PixelFormat], cl.Program]
    if geometry.splitting is None:
        program = groups_program if is_gpu else lanes_program
    else:
        program = partial(split_groups_program if is_gpu else split_lanes_program, tells_noise=tells_noise)
    for dtype in ("u1", "u2", "u4"):
        pixels = PixelFormat.of(geometry, np.dtype(dtype))
        program(context, geometry, pixels)
        sectors_program(context, pixels, share=is_gpu)
    image_program(context, geometry, share=is_gpu)
    if rejection.methods:
        rejection_program(
            context, rejection, share=is_gpu, signed=geometry.quantum is not None, split=not geometry.is_exact
        )


class BatchIntegrator:
    """Exact sums of batches of up to eight frames, and of the summed image.

    Parameters
    ----------
    geometry
        Bin and norm of every pixel.
    dtype
        Pixel type of the frames: an integer of 8, 16 or 32 bits, or float32 where `Geometry.signed` was called.
    device
        Where to compute.
    form
        Kernel form; by default the one that suits the device.
    evaluates
        Whether `evaluate_image` will be called. Its memory grows with the bins more than all the rest: a large cake may
        fit only without.
    rejection
        Which outlier-rejecting profiles `reject_outliers` makes; they take 44 bytes a pixel.
    monitored
        Whether frames of the summed image count for their exposure (see `monitor`), instead of each for 1; that takes
        8 bytes a pixel. Only for signals that are never negative.
    negatives
        Whether values below zero of a signed type count (`Validity.lowest` < 0).
    tells_noise
        Whether sums of split pixels have a row for the noise of counts (see `SUM_ROWS`); those of whole ones need none.

    Raises
    ------
    ValueError
        Float pixels, and the geometry does not say to what they are rounded; signals that may be negative where there
        is a monitor.
    OutOfDeviceMemory, KernelBuildError
    """

    def __init__(
        self,
        geometry: Geometry,
        dtype: np.dtype[np.generic],
        device: cl.Device,
        form: Form | None = None,
        *,
        evaluates: bool = True,
        rejection: Rejection = NO_REJECTION,
        monitored: bool = False,
        negatives: bool = False,
        tells_noise: bool = False,
    ) -> None:
        self.geometry, self.dtype, self.monitored, self.tells_noise = geometry, dtype, monitored, tells_noise
        self._pixels = PixelFormat.of(geometry, dtype, negatives=negatives)
        if monitored and self._pixels.is_signed:
            raise ValueError("a monitor weighs counts that are never negative")
        self.form = form or default_form(device)
        share = self.form == "groups"
        batch_bytes = BATCH * geometry.pixels * dtype.itemsize
        evaluation = evaluation_bytes(geometry.bins, share, monitored=monitored) if evaluates else (0, 0)
        planes = SPLIT_PLANES + (tells_noise and geometry.splitting is not None)
        histograms = (0, 0) if share else lanes_bytes(device, geometry.bins, planes)
        rejecting = rejection_bytes(geometry, monitored=monitored) if rejection.methods else (0,)
        a_pixel = _BYTES_A_PIXEL + 8 * monitored + _BYTES_A_DARK * self._pixels.is_signed
        tables = a_pixel * geometry.pixels + _split_bytes(geometry)
        needed = SLOT_SETS * batch_bytes + tables + sum(evaluation + histograms + rejecting)
        check_memory(device, needed, max(batch_bytes, *evaluation, *histograms, *rejecting))
        self.context = context_of(device)
        self._queue = cl.CommandQueue(self.context)
        self._slots = [Slots(self._queue, BATCH, geometry.pixels, dtype) for _ in range(SLOT_SETS)]
        self._image = ImageBuffers(self._queue, geometry.pixels, monitored=monitored)
        self._whole = StaticSums.of(geometry.bin_table, geometry.norm_q, geometry.bins)
        self.static = self._whole if geometry.splitting is None else split_statics(geometry, geometry.splitting)
        self._tables = DeviceTables(self._queue, geometry, self._pixels)
        on_device = (self._queue, geometry, self._whole, self._tables, self._image, share)
        self._evaluation = ImageEvaluation(*on_device, monitored=monitored) if evaluates else None
        self._lost_exposure = (
            LostExposureKernel(self._queue, geometry, self._pixels, self._image, self._tables) if monitored else None
        )
        self._kernels = self._make_kernels()
        self._sectors = SectorKernel(self._queue, geometry, self._pixels, self._tables, share)
        self._small_image = SmallImageKernel(self._queue, geometry, self._image, self._tables)
        self._rejection = (
            RejectionKernels(
                self._queue,
                geometry,
                self._image,
                rejection,
                share,
                signed=self._pixels.is_signed,
                monitored=monitored,
            )
            if rejection.methods
            else None
        )
        self._image_used = False
        self._noise: tuple[PixelVariance | None, Noise] | None = None
        self._squares = np.zeros(geometry.bins)
        self._largest_norm = int(geometry.norm_q.max(initial=0))

    def fits(self, geometry: Geometry, dtype: np.dtype[np.generic], *, negatives: bool = False) -> bool:
        """Whether `change_mask` is enough to reduce frames of this type with this geometry."""
        mine = self.geometry
        same_norm, same_dark = geometry.norm_q is mine.norm_q, geometry.dark_q is mine.dark_q
        same_signal = same_dark and geometry.quantum == mine.quantum and negatives == self._pixels.negatives
        return dtype == self.dtype and same_norm and same_signal and geometry.splitting is mine.splitting

    def change_mask(self, geometry: Geometry) -> None:
        """Go on with a geometry that differs in its mask only: in some 0.1 s.

        With split pixels a second where pixels come back that were masked before, or on a GPU.
        """
        if geometry is self.geometry:
            return
        old, new = self.geometry.bin_table, geometry.bin_table
        self._whole = self._whole.moved(old, new, geometry.norm_q, geometry.bins)
        if geometry.splitting is None:
            self.static = self._whole
        else:
            self.static = moved_statics(self.static, self.geometry, geometry, geometry.splitting)
        if self._evaluation:
            self._evaluation.change_mask(geometry, self._whole)
        self._tables.change_bins(new)
        self._kernels.change_mask(geometry)
        self._sectors.change_mask(geometry)
        if self._rejection is not None:
            self._rejection.change_mask(geometry)
        self.geometry, self._noise = geometry, None

    @property
    def slots(self) -> NDArray[np.generic]:
        """Where the frames of a batch are written, shape (8, rows, columns), of the frames' own type: the first set."""
        return self.slot_set(0)

    def slot_set(self, which: int) -> NDArray[np.generic]:
        """One of the two sets of slots: one can be filled while the other is integrated."""
        return self._slots[which].array.reshape(BATCH, *self.geometry.shape)

    def integrate(
        self, n_frames: int, validity: Validity, which: int = 0, exposure: NDArray[np.uint64] | None = None
    ) -> FrameSums | SplitFrameSums:
        """Sums of the first ``n_frames`` slots of a set, which are also added to the summed image.

        Parameters
        ----------
        exposure
            What each frame counts for in the summed image, shape (frames,); where the integrator is ``monitored``.
        """
        slots = self._slots[which]
        slots.upload(n_frames)
        self._image_used = True
        if isinstance(self._kernels, GroupKernels | LaneKernels):
            return self._integrate_whole(self._kernels, slots, n_frames, validity, exposure)
        return self._integrate_split(self._kernels, slots, n_frames, validity, exposure)

    def _integrate_whole(
        self,
        kernels: GroupKernels | LaneKernels,
        slots: Slots,
        n_frames: int,
        validity: Validity,
        exposure: NDArray[np.uint64] | None,
    ) -> FrameSums:
        planes, seen = kernels.integrate(slots.buffer, n_frames, validity)
        signal, square, product, lost, lost_norm, lost_low, lost_high = np.moveaxis(planes[:n_frames], 1, 0)
        signal = signal.copy().view(np.int64)
        if self._overflows(signal, square, seen):
            wide = np.moveaxis(kernels.integrate_wide(slots.buffer, n_frames, validity)[:n_frames], 1, 0)
            from_halves = exact.from_signed_halves if self._pixels.is_signed else exact.from_halves
            signal_sq, norm_signal = exact.from_halves(wide[0], wide[1]), from_halves(wide[2], wide[3])
        elif self._pixels.is_signed:
            signal_sq, norm_signal = exact.words(square), exact.signed_words(product.copy().view(np.int64))
        else:
            signal_sq, norm_signal = exact.words(square), exact.words(product)
        if self._pixels.is_signed:
            self._squares += exact.to_float(signal_sq).sum(axis=0)
        self._add_lost_exposure(slots, validity, lost, exposure)
        return FrameSums(
            signal, signal_sq, norm_signal, lost.copy(), lost_norm.copy(), exact.from_halves(lost_low, lost_high)
        )

    def _integrate_split(
        self,
        kernels: SplitGroupKernels | SplitLaneKernels,
        slots: Slots,
        n_frames: int,
        validity: Validity,
        exposure: NDArray[np.uint64] | None,
    ) -> SplitFrameSums:
        found = kernels.integrate(slots.buffer, n_frames, validity)
        self._add_lost_exposure(slots, validity, found.lost_count, exposure)
        return found

    def _add_lost_exposure(
        self, slots: Slots, validity: Validity, lost: NDArray[np.uint64], exposure: NDArray[np.uint64] | None
    ) -> None:
        if self._lost_exposure is not None and exposure is not None and lost.any():
            self._lost_exposure.add(slots.buffer, validity, exposure)

    def sector_sums(self, validity: Validity, slot: int = 0, which: int = 0) -> NDArray[np.int64]:
        """Valid signals of one frame of the batch integrated last, of radial groups x azimuthal sectors, (64, 72).

        To be called after `integrate`, which has made the slots of the set ``which`` visible to the device.
        """
        return self._sectors.sums(self._slots[which].buffer, slot, validity)

    def evaluate_image(self, exposure: int) -> ImageSums:
        """Statistics of the summed image, whose frames count for ``exposure``: their number where there is no monitor.

        Pixels are whole ones, in the bins of their centres.

        Raises
        ------
        ValueError
            The integrator was made without evaluation.
        """
        if self._evaluation is None:
            raise ValueError("this integrator was made with evaluates=False")
        return self._evaluation.run(exposure, self._largest_squares(exposure) if self._pixels.is_signed else None)

    def _largest_squares(self, exposure: int) -> NDArray[np.float64]:
        """What the squared pixels of the bins of the summed image cannot add up to more than, of signed signals."""
        if isinstance(self._kernels, GroupKernels | LaneKernels):
            return exposure * self._squares  # frames count for 1: S is the sum of N of them, and S^2 <= N sum s^2
        return image_squares(self._kernels.image_sums(exposure))

    def split_image(self, exposure: int) -> SplitImage | None:
        """The summed image of split pixels, whose frames count for ``exposure`` > 0: its profiles, and its noise.

        None where pixels are not split: `evaluate_image`, which takes whole pixels always, has them.
        """
        if isinstance(self._kernels, GroupKernels | LaneKernels):
            return None
        unit, geometry = monitor.QUANTUM if self.monitored else 1.0, self.geometry
        sums = self._kernels.image_sums(exposure)
        return SplitImage.of(sums, geometry.norm_quantum, geometry.signal_quantum, unit)

    def noise_of_parts(self, model: PixelVariance | None) -> Noise:
        """`Noise.of_parts`, made once for a mask."""
        if self._noise is None or self._noise[0] != model:
            self._noise = model, Noise.of_parts(self.geometry, model)
        return self._noise[1]

    def reject_outliers(self, exposure: int) -> dict[Method, RingProfile]:
        """Outlier-rejecting profiles of the summed image, whose frames count for ``exposure`` > 0: those asked for."""
        return {} if self._rejection is None else self._rejection.run(exposure)

    def begin_rejection(self, exposure: int) -> None:
        """Begin what `reject_outliers` does: with the summed image as it is now, which may change afterwards."""
        if self._rejection is not None:
            self._rejection.begin(exposure)

    @property
    def is_rejecting(self) -> bool:
        """Whether `begin_rejection` was called and `go_on_rejecting` has not come to its end."""
        return self._rejection is not None and self._rejection.is_under_way

    def go_on_rejecting(self) -> dict[Method, RingProfile] | None:
        """An eighth of the work that is under way: some ms at 4M pixels; the profiles once it was the last."""
        return None if self._rejection is None else self._rejection.go_on()

    def rehearse(self) -> None:
        """Run every kernel once, on the frames that lie in the slots: some compilers (PoCL's) wait for that.

        The summed image is empty afterwards.
        """
        validity = Validity.of(self.dtype)
        self.integrate(BATCH, validity)
        if isinstance(self._kernels, GroupKernels | LaneKernels):
            self._kernels.integrate_wide(self._slots[0].buffer, BATCH, validity)
        self.split_image(BATCH)
        self.sector_sums(validity)
        if self._evaluation is not None:
            self.evaluate_image(BATCH)
        self.small_image(BATCH)
        self.reject_outliers(BATCH)
        self.clear()

    def read_image(self) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """The summed image in quanta and in how many frames each pixel was lost, both (rows, columns)."""
        total, lost = self._image.read()
        return total.reshape(self.geometry.shape), lost.reshape(self.geometry.shape)

    def small_image(self, n_frames: int) -> NDArray[np.float32]:
        """The summed image to look at, at most 512 pixels a side, in quanta; NaN where no pixel is valid.

        Each pixel of it is the mean of a block of pixels, as if they had been valid in all of ``n_frames`` > 0 frames.
        """
        return self._small_image.mean(n_frames)

    def read_lost_exposure(self) -> NDArray[np.uint64] | None:
        """What the frames in which a pixel was lost would have counted for, (rows, columns); None without a monitor."""
        lost = self._image.read_lost_exposure()
        return None if lost is None else lost.reshape(self.geometry.shape)

    def restore_image(
        self,
        total: NDArray[np.int64],
        lost: NDArray[np.uint32],
        lost_exposure: NDArray[np.uint64] | None,
        squares: NDArray[np.float64],
    ) -> None:
        """Go on from a summed image that was read before, maybe from another device.

        Parameters
        ----------
        total, lost, lost_exposure
            What `read_image` and `read_lost_exposure` gave; the last with a monitor only.
        squares
            Sum of the squared signals of all frames, shape (bins,).

        Raises
        ------
        ValueError
            It is of another shape, or was made with a monitor and this one is not, or the other way round.
        """
        if total.shape != self.geometry.shape or lost.shape != total.shape:
            raise ValueError(f"the image is of {total.shape} pixels, the detector of {self.geometry.shape}")
        if (lost_exposure is not None) != self.monitored:
            raise ValueError("one of image and integrator has a monitor, the other has none")
        self.clear()
        self._image_used = True
        self._image.write(total, lost, lost_exposure)
        if self._pixels.is_signed:
            self._squares += squares

    def clear(self) -> None:
        """Forget the summed image, where there is one."""
        if self._image_used:
            self._image.clear()
            if self._rejection is not None:
                self._rejection.clear()
        self._image_used = False
        self._squares[:] = 0

    def _make_kernels(self) -> GroupKernels | LaneKernels | SplitGroupKernels | SplitLaneKernels:
        geometry, groups = self.geometry, self.form == "groups"
        end = (self._pixels, self._image, self._tables)
        if geometry.splitting is not None:
            split = SplitGroupKernels if groups else SplitLaneKernels
            return split(
                self._queue, geometry, geometry.splitting, *end, tells_noise=self.tells_noise, monitored=self.monitored
            )
        whole = GroupKernels if groups else LaneKernels
        return whole(self._queue, geometry, *end)

    def _overflows(self, signal: NDArray[np.int64], square: NDArray[np.uint64], seen: int) -> bool:
        """Whether a 64-bit sum may have wrapped: sum s^2 <= max(s) sum s, sum g s <= max(g) sum s.

        Signed signals may cancel. For them sum s^2 <= n max(s)^2, and (sum g s)^2 <= sum s^2 sum g^2.
        """
        if not self._pixels.is_signed:
            return int(signal.max(initial=0)) * max(seen, self._largest_norm) >= _LARGEST_PRODUCT
        if int(self.static.count.max(initial=0)) * seen**2 >= _LARGEST_PRODUCT:
            return True
        largest = (square.astype(np.float64) * exact.to_float(self.static.norm_sq)).max(initial=0.0)
        return bool(largest >= _LARGEST_SIGNED_SQUARE)


def _split_bytes(geometry: Geometry) -> int:
    splitting = geometry.splitting
    return 0 if splitting is None else _BYTES_A_SPLIT_PIXEL * geometry.pixels + _BYTES_AN_ENTRY * splitting.share.size
