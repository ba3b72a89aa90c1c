"""Publishes three frames at a time, without a pause and without an end, into each folder named on a line of stdin.

Each has a process of its own, whose id is written to stdout as soon as it runs: python live_writer.py < FOLDERS.
"""

import os
import sys
from itertools import count
from pathlib import Path

from conftest import Results

from ringwatch.publish.hdf5 import Hdf5Publisher


def write(folder: Path) -> None:
    """Without an end."""
    results = Results()
    publisher = Hdf5Publisher(folder, "endless", 0.0, "{}")
    publisher.open()
    publisher.publish(results.event())
    for start in count(0, 3):
        publisher.publish(results.rows(start))
        publisher.publish(results.measured(start + 3))
        publisher.publish(results.decision(start + 3))
        publisher.publish(results.profile(source="accumulated", n_frames=start + 3))


def main() -> None:
    """Fork a writer for each line: what it needs was imported once."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            write(Path(line.strip()))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        os.waitpid(pid, 0)


main()
