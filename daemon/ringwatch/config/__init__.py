"""From a TOML file to a frozen, checked `Config`; every mistake is found before start and said at once."""

from ringwatch.config.loading import load
from ringwatch.config.model import (
    AccumulateConfig,
    Config,
    DeviceConfig,
    FilesConfig,
    GeometryConfig,
    Hdf5Config,
    ProfilesConfig,
    PublishConfig,
    StreamConfig,
    WebConfig,
    WindowConfig,
    ZmqConfig,
    unweighable,
)
from ringwatch.config.stop import GROWING_METRICS, RINGS_FRACTION, RingsConfig, StopConfig
from ringwatch.config.values import is_local

__all__ = [
    "GROWING_METRICS",
    "RINGS_FRACTION",
    "AccumulateConfig",
    "Config",
    "DeviceConfig",
    "FilesConfig",
    "GeometryConfig",
    "Hdf5Config",
    "ProfilesConfig",
    "PublishConfig",
    "RingsConfig",
    "StopConfig",
    "StreamConfig",
    "WebConfig",
    "WindowConfig",
    "ZmqConfig",
    "is_local",
    "load",
    "unweighable",
]
