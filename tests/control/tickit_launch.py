"""Starts tickit with a socket that only binds. Its own one also connects to itself and loses every second message.

Run by the Python of .venv-tickit: tickit_launch.py all eiger.yaml
"""

import aiozmq
import zmq
from tickit.adapters.io import zeromq_push_io
from tickit.cli import main


async def bound(host: str, port: int) -> aiozmq.ZmqStream:
    return await aiozmq.create_zmq_stream(zmq.PUSH, bind=f"tcp://{host}:{port}")


zeromq_push_io.ZeroMqPushIo.__init__.__defaults__ = ("127.0.0.1", 5555, bound)
main()
