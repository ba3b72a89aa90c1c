"""From a kernel file and its constants to kernels that are ready to call; the build log is in the error."""

import warnings
from collections.abc import Mapping
from importlib.resources import files

import pyopencl as cl

from .errors import KernelBuildError


def build(context: cl.Context, stem: str, constants: Mapping[str, int | str]) -> cl.Program:
    """Compile ``kernels/<stem>.cl`` with its -D constants; compiled programs are cached on disk by pyopencl.

    Raises
    ------
    KernelBuildError
        With the compiler's log, which pyopencl puts into its own error.
    """
    source = files(__package__).joinpath("kernels", f"{stem}.cl").read_text()
    options = [f"-D{name}={value}" for name, value in constants.items()]
    program = cl.Program(context, source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cl.CompilerWarning)  # Intel's compiler comments on every success
            program.build(options=options)
    except cl.Error as error:
        raise KernelBuildError(str(error), context.devices[0].name, stem) from error
    return program
