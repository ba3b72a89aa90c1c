"""From kernel files and their constants to kernels that are ready to call; the build log is in the error.

A process has one context for each device and keeps what it compiled: another series of the same shape starts at once.
"""

import functools
import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import files

import pyopencl as cl

from .errors import KernelBuildError

_PROGRAMS_KEPT = 64
"""A geometry needs eight of them: two for each of three pixel types, one for the image, one for rejection."""


@functools.cache
def context_of(device: cl.Device) -> cl.Context:
    """The context of a device, the same at every call."""
    return cl.Context([device])


def forget() -> None:
    """Let go of all contexts and of what was compiled in them: after a device has failed everything is made anew."""
    _compile.cache_clear()
    context_of.cache_clear()


def build(context: cl.Context, stem: str, constants: Mapping[str, int | str], before: Sequence[str] = ()) -> cl.Program:
    """Compile ``kernels/<stem>.cl`` with its -D constants, after the files it builds upon; or take it from before.

    Compiled programs are also cached on disk, by pyopencl or by PoCL.

    Raises
    ------
    KernelBuildError
        With the compiler's log, which pyopencl puts into its own error.
    """
    folder = files(__package__).joinpath("kernels")
    source = "\n".join(folder.joinpath(f"{name}.cl").read_text() for name in (*before, stem))
    try:
        return _compile(context, source, tuple(f"-D{name}={value}" for name, value in constants.items()))
    except cl.Error as error:
        raise KernelBuildError(str(error), context.devices[0].name, stem) from error


@functools.lru_cache(_PROGRAMS_KEPT)
def _compile(context: cl.Context, source: str, options: tuple[str, ...]) -> cl.Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cl.CompilerWarning)  # Intel's compiler comments on every success
        program: cl.Program = cl.Program(context, source).build(options=list(options))
    return program
