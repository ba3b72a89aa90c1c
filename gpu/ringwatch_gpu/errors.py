"""What can go wrong on the numbers' side. The facts are attributes, the text is for people."""


class DeviceError(RuntimeError):
    """The OpenCL device cannot be used (any more). The daemon exits with code 1: a restart may help."""


class NoDevice(DeviceError):
    """No usable OpenCL device: ``reason`` says what was looked for and found, ``advice`` how to get one."""

    def __init__(self, reason: str, advice: str) -> None:
        self.reason = reason
        self.advice = advice
        super().__init__(f"{reason}\n{advice}")


class KernelBuildError(DeviceError):
    """The device's compiler refused a kernel; ``log`` is what it said."""

    def __init__(self, log: str, device: str, kernel: str) -> None:
        self.log = log
        self.device = device
        self.kernel = kernel
        super().__init__(f"kernel {kernel} does not build on {device}:\n{log}")


class OutOfDeviceMemory(DeviceError):
    """The device has less memory than the series needs. Both numbers are bytes."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
        super().__init__(f"{needed_bytes / 1e6:.0f} MB of device memory are needed, {free_bytes / 1e6:.0f} MB are free")


class DigestMismatch(ValueError):
    """Sums of different geometries, masks or norms cannot be merged or subtracted."""

    def __init__(self, ours: str, theirs: str) -> None:
        self.ours = ours
        self.theirs = theirs
        super().__init__(
            f"these sums were made with different geometry, mask, bins or corrections (digests {ours[:12]} and "
            f"{theirs[:12]}): they cannot be merged"
        )


class GeometryError(ValueError):
    """A PONI file, a mask or a request for bins that cannot be used: the text says what is wrong and where."""


class ShapeUnknown(GeometryError):
    """The PONI does not say the shape of the detector: it has to come from the frames."""


class GeometryMismatch(GeometryError):
    """The PONI describes a detector of another shape than the frames have. Shapes are (rows, columns)."""

    def __init__(
        self, expected_shape: tuple[int, int], poni_shape: tuple[int, int], detector: str, source: str
    ) -> None:
        self.expected_shape = expected_shape
        self.poni_shape = poni_shape
        self.detector = detector
        self.source = source
        super().__init__(
            f"the frames have {expected_shape[0]} x {expected_shape[1]} pixels (rows x columns), but {source} is for "
            f"{detector} with {poni_shape[0]} x {poni_shape[1]}: use the PONI file of the detector that takes them"
        )
