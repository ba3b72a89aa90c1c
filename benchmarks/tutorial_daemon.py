"""The configuration of a daemon that reduces a simulated series, everything on, in a scratch folder."""

from pathlib import Path

from ringwatch.config import Config
from ringwatch.stream.powder import PRESETS


def configuration(scratch: str, platform: str | None = None, preset: str = "tutorial") -> Config:
    """Stream at ``ipc://<scratch>/detector``; files go into the folder, sockets to any free port."""
    poni = Path(scratch, f"{preset}.poni")
    poni.write_text(PRESETS[preset].poni())
    return Config.from_mapping(
        {
            "stream": {"endpoint": f"ipc://{scratch}/detector"},
            "geometry": {"poni": str(poni)},
            "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}, "hdf5": {"root": scratch}},
            "web": {"bind": "127.0.0.1:0"},
            "device": {"platform": platform} if platform else {},
        }
    )
