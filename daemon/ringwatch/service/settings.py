"""A configuration and a device in, what the reduction needs to know out: the same live and offline."""

import os
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from ringwatch.config import Config, FilesConfig, ProfilesConfig, RingsConfig
from ringwatch.messages import ProfileKind
from ringwatch.reduction.settings import ReductionSettings
from ringwatch_gpu.noise import PixelVariance
from ringwatch_gpu.rejection import Rejection, SigmaClip
from ringwatch_gpu.ring_positions import calibrant_spacings

PACKAGES = ("ringwatch", "numpy", "pyopencl", "pyFAI", "dectris-compression", "h5py")
MAX_DECODERS = 8  # a batch has no more frames
SHORTEST_SAVE_S, DEFAULT_SAVE_S = 2.0, 5.0
"""A saved state of 4M pixels takes 30 ms of the reduction and 5 MB of disk."""


def reduction_settings(config: Config | FilesConfig, device: cl.Device) -> ReductionSettings:
    """Settings of the reduction, with the names and versions of everything that makes a number.

    Raises
    ------
    GeometryError
        pyFAI does not know the calibrant.
    """
    hdf5 = config.publish.hdf5 if isinstance(config, Config) else None
    accumulate = config.accumulate
    return ReductionSettings(
        interval_s=config.profiles.interval_s,
        dummies=config.geometry.dummies,
        has_mask=config.geometry.mask is not None,
        samples=isinstance(config, Config) and config.stream.socket == "sub",
        decoder_threads=min(MAX_DECODERS, os.cpu_count() or 1),
        d_spacings_A=d_spacings_A(config.rings),
        stop=config.stop,
        scope=accumulate.scope,
        window=accumulate.window,
        monitor_reference=None if accumulate.monitor_wait_s is None else accumulate.monitor_reference,
        error_model=config.profiles.error_model,
        rejection=rejection(config.profiles),
        variance=variance(config.profiles),
        keeps_frame_sums=hdf5 is not None and hdf5.frames == "sums",
        save_s=_save_s(config) if isinstance(config, Config) else None,
        versions=versions(device),
    )


def _save_s(config: Config) -> float:
    hdf5 = config.publish.hdf5
    return DEFAULT_SAVE_S if hdf5 is None else max(hdf5.flush_s, SHORTEST_SAVE_S)


def rejection(profiles: ProfilesConfig) -> Rejection:
    """Which outlier-rejecting profiles the configuration asks for."""
    clip = None if profiles.sigma_clip == "off" else SigmaClip(profiles.sigma_clip.thres, profiles.sigma_clip.max_iter)
    band = None if profiles.quantile == "off" else profiles.quantile
    return Rejection(clip, band, profiles.median_clip, variance(profiles), profiles.error_model)


def only(kind: ProfileKind | None, profiles: ProfilesConfig) -> Rejection:
    """One outlier-rejecting profile alone, as the configuration has it, or with defaults where it is off there."""
    asked, default = rejection(profiles), Rejection()
    return replace(
        asked,
        sigma_clip=(asked.sigma_clip or default.sigma_clip) if kind == "sigma_clip" else None,
        quantile=(asked.quantile or default.quantile) if kind == "quantile" else None,
        median_clip=kind == "median_clip",
    )


def variance(profiles: ProfilesConfig) -> PixelVariance | None:
    """The model of a pixel's variance that the configuration gives, if any."""
    return None if profiles.variance == "off" else PixelVariance(profiles.variance.gain, profiles.variance.readout)


def d_spacings_A(rings: RingsConfig) -> NDArray[np.float64] | None:  # noqa: N802 - the unit's own spelling
    """Where the configuration says that rings are; None where they have to be found.

    Raises
    ------
    GeometryError
        pyFAI does not know the calibrant.
    """
    if rings.calibrant is not None:
        return calibrant_spacings(rings.calibrant)
    return None if rings.d_spacings_A is None else np.array(rings.d_spacings_A)


def versions(device: cl.Device) -> dict[str, str]:
    """Installed versions, and the device with its driver."""
    found = {package: version(package) for package in PACKAGES}
    platform = device.platform
    return {**found, "device": f"{device.name.strip()} ({platform.name.strip()}, driver {device.driver_version})"}
