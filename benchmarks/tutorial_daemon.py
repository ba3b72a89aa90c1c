"""The configuration of a daemon that reduces the simulated tutorial series, everything on, in a scratch folder."""

from pathlib import Path

from ringwatch.config import Config
from ringwatch.stream.powder import TUTORIAL


def configuration(scratch: str, platform: str | None = None) -> Config:
    """Stream at ``ipc://<scratch>/detector``; files go into the folder, sockets to any free port."""
    poni = Path(scratch, "tutorial.poni")
    poni.write_text(TUTORIAL.poni())
    return Config.from_mapping(
        {
            "stream": {"endpoint": f"ipc://{scratch}/detector"},
            "geometry": {"poni": str(poni)},
            "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}, "hdf5": {"root": scratch}},
            "web": {"bind": "127.0.0.1:0"},
            "device": {"platform": platform} if platform else {},
        }
    )
