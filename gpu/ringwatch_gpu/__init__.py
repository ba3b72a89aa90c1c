"""The numbers: OpenCL kernels, their numpy specification, geometry and exact sums. Knows arrays, never messages.

The front door is `Integrator` and `Geometry`; they are loaded when first asked for, since pyopencl takes its time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .geometry import Geometry
    from .integrator import Integrator
    from .rejection import Rejection, SigmaClip
    from .summed_image import SummedImage
    from .sums import RingSums

__all__ = ["Geometry", "Integrator", "Rejection", "RingSums", "SigmaClip", "SummedImage"]

_HOMES = {
    "Geometry": "geometry",
    "Integrator": "integrator",
    "Rejection": "rejection",
    "RingSums": "sums",
    "SigmaClip": "rejection",
    "SummedImage": "summed_image",
}


def __getattr__(name: str) -> object:
    from importlib import import_module  # noqa: PLC0415 - only where a name is asked for

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
