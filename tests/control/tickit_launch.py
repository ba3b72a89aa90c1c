"""Starts tickit with smaller frames, the first rows of its own, and with a socket that only binds.

Of 16M pixels a test of commands would compute on nothing else. Its own socket also connects to itself and loses every
second message. Run by the Python of .venv-tickit in a folder of its own: tickit_launch.py ROWS COLUMNS all eiger.yaml
"""

import shutil
import struct
import sys
from pathlib import Path

import aiozmq
import cbor2
import zmq
from tickit.adapters.io import zeromq_push_io
from tickit.cli import main
from tickit_devices.eiger import eiger
from tickit_devices.eiger.data import dummy_image
from tickit_devices.eiger.eiger_settings import EigerSettings
from tickit_devices.eiger.stream import eiger_stream_2

ROWS, COLUMNS = int(sys.argv.pop(1)), int(sys.argv.pop(1))
BLOCK_BYTES = 8192
"""What bitshuffle compresses at a time. A frame is: size, size of a block, the blocks with their compressed sizes."""


def first_rows(frame: bytes) -> bytes:
    """The first blocks of a compressed frame of 16 bits a pixel."""
    size_bytes, at = 2 * ROWS * COLUMNS, 12
    for _ in range(size_bytes // BLOCK_BYTES):
        at += 4 + int.from_bytes(frame[at : at + 4], "big")
    return struct.pack(">QI", size_bytes, BLOCK_BYTES) + frame[12:at]


def write_small_data(folder: Path) -> None:
    """What both streams send, in files as tickit has them."""
    blob, templates = dummy_image.DUMMY_IMAGE_BLOB_PATH, eiger_stream_2.DATA_PATH
    (folder / "frame_sample").write_bytes(first_rows(blob.read_bytes()))
    start, image = (cbor2.loads((templates / f"{name}.cbor").read_bytes()) for name in ("start", "image"))
    pixels = image["data"]["threshold_1"]
    algorithm, size, frame = pixels.value[1].value.value
    compressed = cbor2.CBORTag(56500, [algorithm, size, first_rows(frame)])
    image["data"]["threshold_1"] = cbor2.CBORTag(40, [[ROWS, COLUMNS], cbor2.CBORTag(69, compressed)])
    (folder / "image.cbor").write_bytes(cbor2.dumps(image))
    (folder / "start.cbor").write_bytes(cbor2.dumps(start | {"image_size_x": COLUMNS, "image_size_y": ROWS}))
    shutil.copy(templates / "end.cbor", folder)
    dummy_image.DUMMY_IMAGE_BLOB_PATH, eiger_stream_2.DATA_PATH = folder / "frame_sample", folder


class SmallSettings(EigerSettings):
    """Those of the detector, which know its size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.x_pixels_in_detector, self.y_pixels_in_detector = COLUMNS, ROWS


async def bound(host: str, port: int) -> aiozmq.ZmqStream:
    return await aiozmq.create_zmq_stream(zmq.PUSH, bind=f"tcp://{host}:{port}")


write_small_data(Path.cwd())
eiger.EigerSettings = SmallSettings
zeromq_push_io.ZeroMqPushIo.__init__.__defaults__ = ("127.0.0.1", 5555, bound)
main()
