"""Names and versions of everything that made a number, for the result files."""

from importlib.metadata import version

import pyopencl as cl

PACKAGES = ("ringwatch", "numpy", "pyopencl", "pyFAI", "dectris-compression", "h5py")


def versions(device: cl.Device) -> dict[str, str]:
    """Installed versions, and the device with its driver."""
    found = {package: version(package) for package in PACKAGES}
    platform = device.platform
    return {**found, "device": f"{device.name.strip()} ({platform.name.strip()}, driver {device.driver_version})"}
