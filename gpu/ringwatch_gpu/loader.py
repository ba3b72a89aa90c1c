"""Installed OpenCL runtimes in, the platforms of this process out.

The OpenCL loader reads the list of runtimes once in the life of a process: at the first question for platforms, whoever
asks it. It knows ``/etc/OpenCL/vendors`` only, so it misses a CPU runtime that pip installed and NVIDIA's library in a
container. ``platforms`` asks first, with the complete list. pyFAI (through silx) asks when it is imported: whatever
imports pyFAI beside this package calls ``platforms`` before.

No OpenCL state survives ``os.fork``: a child that computes must be a new process (spawn, not fork).
"""

import contextlib
import ctypes
import functools
import os
import platform
import site
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyopencl as cl

from .errors import DeviceError

USER_VARIABLES = ("OCL_ICD_VENDORS", "OPENCL_VENDOR_PATH")
AFFINITY = "POCL_AFFINITY"
"""With 1, PoCL keeps its first thread on the first CPU, and so on; it reads that when it starts them."""

# The system's and conda's. The loader reads a third, inside pyopencl, in any case.
_VENDOR_FOLDERS = (Path("/etc/OpenCL/vendors"), Path(sysconfig.get_path("data"), "etc/OpenCL/vendors"))
_NVIDIA_CONTAINER = Path("/usr/local/nvidia/lib64")
_NVIDIA_FOLDERS = (_NVIDIA_CONTAINER, Path(f"/usr/lib/{platform.machine()}-linux-gnu"), Path("/usr/lib64"))
# What NVIDIA's OpenCL opens by bare name while it works.
_NVIDIA_COMPANIONS = ("libcuda.so.1", "libnvidia-gpucomp.so.*", "libnvidia-nvvm.so.4", "libnvidia-ptxjitcompiler.so.1")


@functools.cache
def platforms() -> tuple[cl.Platform, ...]:
    """Every OpenCL platform of this machine, as the loader orders them; empty if there is none.

    The environment is changed only while the loader and the runtimes read it. Where the user has set
    ``OCL_ICD_VENDORS``, ``OPENCL_VENDOR_PATH`` or ``POCL_AFFINITY``, what he chose counts.

    Raises
    ------
    DeviceError
        The loader fails otherwise than by finding nothing.
    """
    with _every_runtime_listed(), _each_thread_on_its_cpu():
        try:
            found = tuple(cl.get_platforms())
            for each in found:
                each.get_devices()  # with this question the runtimes start
        except cl.LogicError as error:
            if error.code == cl.status_code.PLATFORM_NOT_FOUND_KHR:
                return ()
            raise DeviceError(f"OpenCL cannot be started: {error}") from error
    return found


def user_choice() -> str | None:
    """The variable by which the user chose the runtimes, as ``NAME=value``; None if he left that to us."""
    return next((f"{name}={os.environ[name]}" for name in USER_VARIABLES if name in os.environ), None)


def unheard_runtimes() -> list[str]:
    """A sentence for each runtime that is installed but did not come to be loaded, with the reason."""
    platforms()
    loaded = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    return [_why_unheard(path) for path in _installed_runtimes() if str(path.resolve()) not in loaded]


def _why_unheard(library: Path) -> str:
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return f"{library} cannot be loaded: {error}"
    if choice := user_choice():
        return f"{library} was not asked, because {choice} is set."
    return (
        f"{library} came too late: other code in this process asked for OpenCL platforms first (pyFAI does when it is "
        "imported). Call ringwatch_gpu.loader.platforms() before that."
    )


@contextlib.contextmanager
def _every_runtime_listed() -> Iterator[None]:
    """The loader's environment names the system's runtimes and those that only we find."""
    known = _known_to_the_loader()
    libraries = _merged(known, _installed_runtimes())
    if user_choice() or libraries == known:
        yield
        return
    _load_nvidia_companions()
    with tempfile.TemporaryDirectory(prefix="ringwatch-opencl-") as folder:
        for number, library in enumerate(libraries):
            Path(folder, f"{number:02d}.icd").write_text(f"{library}\n", encoding="utf-8")
        os.environ["OCL_ICD_VENDORS"] = folder
        try:
            yield
        finally:
            del os.environ["OCL_ICD_VENDORS"]


@contextlib.contextmanager
def _each_thread_on_its_cpu() -> Iterator[None]:
    """PoCL's threads stay apart: the scheduler often wakes two on one CPU and leaves another idle for milliseconds.

    PoCL counts all CPUs, also those that this process may not use: then nothing is changed.
    """
    if AFFINITY in os.environ or os.sched_getaffinity(0) != set(range(os.cpu_count() or 0)):
        yield
        return
    os.environ[AFFINITY] = "1"
    try:
        yield
    finally:
        del os.environ[AFFINITY]


def _known_to_the_loader() -> list[str]:
    """Libraries named by the machine's .icd files; those whose absolute path does not exist are left out."""
    files = [file for folder in _VENDOR_FOLDERS for file in sorted(folder.glob("*.icd"))]
    named = [file.read_text(encoding="utf-8", errors="replace").strip() for file in files]
    return [name for name in dict.fromkeys(named) if name and (not Path(name).is_absolute() or Path(name).exists())]


def _installed_runtimes() -> list[Path]:
    """Runtimes that need no .icd file to be found: the CPU runtime from PyPI, and NVIDIA's library."""
    bases = [sysconfig.get_path("data"), *([site.getuserbase()] if site.ENABLE_USER_SITE else [])]
    candidates = [Path(base, "lib/libintelocl.so") for base in bases]
    nvidia = next((found for folder in _NVIDIA_FOLDERS if (found := folder / "libnvidia-opencl.so.1").exists()), None)
    return [path for path in candidates if path.exists()] + ([nvidia] if nvidia else [])


def _merged(known: Sequence[str], installed: Sequence[Path]) -> list[str]:
    """One library a file name: an absolute path of ``known`` stands, a bare name gives way to a path that exists."""
    by_name = {Path(name).name: name for name in known}
    for path in installed:
        if not Path(by_name.get(path.name, "")).is_absolute():
            by_name[path.name] = str(path)
    return list(by_name.values())


def _load_nvidia_companions() -> None:
    """Make NVIDIA's libraries findable by bare name where they lie outside the dynamic linker's folders."""
    for pattern in _NVIDIA_COMPANIONS:
        for library in sorted(_NVIDIA_CONTAINER.glob(pattern)):
            with contextlib.suppress(OSError):  # the platform that needs it will say what it lacks
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
