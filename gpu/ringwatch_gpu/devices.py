"""Platform or kind of device in, one OpenCL device out: what is there, what is usable, what is best, how to get one.

The order is the same at every start: GPUs before CPUs before others; a GPU with its own memory before one that shares
the host's; of the CPU runtimes PoCL before Intel's: the kernels are equally fast, but PoCL's threads sleep between two
batches where Intel's wait awake; then by name.
"""

import functools
import platform as machine
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyopencl as cl

from . import loader, programs
from .errors import KernelBuildError, NoDevice

Kind = Literal["gpu", "cpu", "other"]

_KINDS: tuple[Kind, ...] = ("gpu", "cpu", "other")
INTEL = "Intel(R) OpenCL"
_CPU_RUNTIMES = ("Portable Computing Language", INTEL)
_PROBE_FACTOR = 2**24 + 1  # the square needs more than 32 bits


@dataclass(frozen=True)
class DeviceInfo:
    """One OpenCL device of this machine. ``device`` is the handle for pyopencl, ``memory_bytes`` its global memory."""

    platform: str
    name: str
    kind: Kind
    driver: str
    compute_units: int
    memory_bytes: int
    device: cl.Device = field(repr=False)

    @property
    def usable(self) -> bool:
        """Whether the reduction runs on it."""
        return not self.why_not

    @functools.cached_property
    def why_not(self) -> str:
        """Why it is not usable; empty if it is. The first question builds and runs a tiny kernel (0.1 to 0.5 s)."""
        return _missing_ability(self.device, self.kind) or _probe_failure(self.device, self.kind)

    def __str__(self) -> str:
        return f"{self.name} ({self.platform})"


@functools.cache
def list_devices() -> tuple[DeviceInfo, ...]:
    """Every OpenCL device of this machine, usable or not, best first."""
    found = [_info(device) for platform in loader.platforms() for device in platform.get_devices()]
    return tuple(sorted(found, key=_rank))


def choose(platform: str | None = None, kind: Kind | None = None) -> cl.Device:
    """The best usable device.

    Parameters
    ----------
    platform
        Part of the platform's or the device's name; upper and lower case are the same. None: any.
    kind
        None: a GPU, else a CPU, else another device.

    Raises
    ------
    NoDevice
        None fits or none of those that fit is usable; the error says what is there and how to get one.
    """
    fitting = [info for info in list_devices() if _fits(info, platform, kind)]
    for info in fitting:
        if info.usable:
            return info.device
    raise NoDevice(_why_none(fitting, platform, kind), advice())


def name_of(device: cl.Device) -> str:
    """What people are told: the device and its platform."""
    return f"{device.name.strip()} ({device.platform.name.strip()})"


def spare(failed: cl.Device) -> cl.Device | None:
    """A usable CPU device in the place of one that failed; None if there is no other."""
    cpus = (info for info in list_devices() if info.kind == "cpu" and info.device != failed)
    return next((info.device for info in cpus if info.usable), None)


def advice() -> str:
    """How to get an OpenCL device on this machine, with what an attempt so far lacked."""
    lines = [
        "To get an OpenCL device:",
        "  NVIDIA GPU           NVIDIA's driver with libnvidia-opencl.so.1; in a container also",
        "                       NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        "  CPU, Debian/Ubuntu   sudo apt-get install pocl-opencl-icd",
    ]
    if machine.machine() == "x86_64":
        lines += [
            "  CPU, without root    pip install 'ringwatch[cpu]'",
            "                       Intel's runtime, for AMD processors too: 280 MB to download, 850 MB on disk",
        ]
    return "\n".join(lines + [f"Note: {sentence}" for sentence in loader.unheard_runtimes()])


def describe() -> str:
    """What ``ringwatch devices`` prints: the devices found, which one is used and why, or how to get one."""
    found = list_devices()
    best = next((info for info in found if info.usable), None)
    lines = [_line(info, info is best) for info in found] or ["No OpenCL device was found."]
    return "\n".join([*lines, "", _why_best(best, found) if best else advice()])


def _info(device: cl.Device) -> DeviceInfo:
    return DeviceInfo(
        platform=device.platform.name.strip(),
        name=device.name.strip(),
        kind=_kind(device),
        driver=device.driver_version.strip(),
        compute_units=device.max_compute_units,
        memory_bytes=device.global_mem_size,
        device=device,
    )


def _kind(device: cl.Device) -> Kind:
    if device.type & cl.device_type.GPU:
        return "gpu"
    return "cpu" if device.type & cl.device_type.CPU else "other"


def _rank(info: DeviceInfo) -> tuple[int, bool, int, str]:
    shares_memory = info.kind == "gpu" and bool(info.device.host_unified_memory)
    runtime = _CPU_RUNTIMES.index(info.platform) if info.platform in _CPU_RUNTIMES else len(_CPU_RUNTIMES)
    return _KINDS.index(info.kind), shares_memory, runtime, info.platform


def _fits(info: DeviceInfo, platform: str | None, kind: Kind | None) -> bool:
    named = platform is None or any(platform.lower() in name.lower() for name in (info.platform, info.name))
    return named and kind in (None, info.kind)


def _missing_ability(device: cl.Device, kind: Kind) -> str:
    """What the device says it cannot do."""
    extensions = device.extensions.split()
    small = device.profile != "FULL_PROFILE"
    abilities = {
        "it is not available": device.available,
        "it is big endian": device.endian_little,
        "it has no compiler": device.compiler_available,
        "it has no 64-bit integers": not small or "cles_khr_int64" in extensions,
        "it has no 64-bit floating point": device.double_fp_config,
        "it has no 64-bit atomics (cl_khr_int64_base_atomics)": kind != "gpu"
        or "cl_khr_int64_base_atomics" in extensions,
    }
    return next((lack for lack, able in abilities.items() if not able), "")


def _probe_failure(device: cl.Device, kind: Kind) -> str:
    """What goes wrong when a tiny kernel is built and run; empty if nothing does."""
    try:
        result = _run_probe(device, {"ATOMIC": 1} if kind == "gpu" else {})
    except KernelBuildError as error:
        return f"its compiler fails: {_gist(error.log)}"
    except cl.Error as error:
        return f"it does not run a tiny kernel: {_gist(str(error))}"
    return "" if result == _PROBE_FACTOR**2 else "it computes a wrong number"


def _run_probe(device: cl.Device, constants: dict[str, int]) -> int:
    context = cl.Context([device])
    program = programs.build(context, "devices", constants)
    result = np.zeros(1, np.uint64)
    memory = cl.Buffer(context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=result)
    queue = cl.CommandQueue(context)
    program.probe(queue, (1,), None, memory, np.uint64(_PROBE_FACTOR))
    cl.enqueue_copy(queue, result, memory)
    return int(result[0])


def _gist(message: str) -> str:
    """The line of a compiler's log that names the error."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[0])


def _why_none(fitting: list[DeviceInfo], platform: str | None, kind: Kind | None) -> str:
    wanted = "OpenCL device" + (f" of kind {kind}" if kind else "") + (f" named {platform!r}" if platform else "")
    if fitting:
        return f"no usable {wanted}:\n" + "\n".join(f"  {info}: {info.why_not}" for info in fitting)
    others = ", ".join(str(info) for info in list_devices())
    return f"no {wanted}; found: {others or 'none'}"


def _line(info: DeviceInfo, best: bool) -> str:
    size = f"{info.compute_units} compute units, {info.memory_bytes / 1e9:.1f} GB, driver {info.driver}"
    unusable = "" if info.usable else f"\n    not usable: {info.why_not}"
    return f"{'*' if best else ' '} {info.kind.upper():5} {info}: {size}{unusable}"


def _why_best(best: DeviceInfo, found: tuple[DeviceInfo, ...]) -> str:
    usable = [info for info in found if info.usable]
    if len(usable) == 1:
        return f"Used unless configured otherwise: {best}, the only usable device."
    if best.kind != usable[1].kind:
        return f"Used unless configured otherwise: {best}, because a {best.kind.upper()} comes first."
    return f"Used unless configured otherwise: {best}, the first of its kind."
