"""From kernel files and their constants to kernels that are ready to call; the build log is in the error."""

import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import files

import pyopencl as cl

from .errors import KernelBuildError


def build(context: cl.Context, stem: str, constants: Mapping[str, int | str], before: Sequence[str] = ()) -> cl.Program:
    """Compile ``kernels/<stem>.cl`` with its -D constants, after the files it builds upon.

    Compiled programs are cached on disk by pyopencl.

    Raises
    ------
    KernelBuildError
        With the compiler's log, which pyopencl puts into its own error.
    """
    folder = files(__package__).joinpath("kernels")
    source = "\n".join(folder.joinpath(f"{name}.cl").read_text() for name in (*before, stem))
    options = [f"-D{name}={value}" for name, value in constants.items()]
    program = cl.Program(context, source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cl.CompilerWarning)  # Intel's compiler comments on every success
            program.build(options=options)
    except cl.Error as error:
        raise KernelBuildError(str(error), context.devices[0].name, stem) from error
    return program
