"""A configuration and a device in, what the reduction needs to know out: the same live and offline."""

import os
from importlib.metadata import version

import pyopencl as cl

from ringwatch.config import Config, FilesConfig
from ringwatch.reduction.series import ReductionSettings

PACKAGES = ("ringwatch", "numpy", "pyopencl", "pyFAI", "dectris-compression", "h5py")
MAX_DECODERS = 8  # a batch has no more frames


def reduction_settings(config: Config | FilesConfig, device: cl.Device) -> ReductionSettings:
    """Settings of the reduction, with the names and versions of everything that makes a number."""
    return ReductionSettings(
        interval_s=config.profiles.interval_s,
        dummies=config.geometry.dummies,
        decoder_threads=min(MAX_DECODERS, os.cpu_count() or 1),
        versions=versions(device),
    )


def versions(device: cl.Device) -> dict[str, str]:
    """Installed versions, and the device with its driver."""
    found = {package: version(package) for package in PACKAGES}
    platform = device.platform
    return {**found, "device": f"{device.name.strip()} ({platform.name.strip()}, driver {device.driver_version})"}
