"""Publishes three frames at a time, without a pause and without an end: python live_writer.py FOLDER."""

import sys
from itertools import count
from pathlib import Path

from conftest import Results

from ringwatch.publish.hdf5 import Hdf5Publisher


def main(folder: Path) -> None:
    results = Results()
    publisher = Hdf5Publisher(folder, "endless", 0.0, "{}")
    publisher.open()
    publisher.publish(results.event())
    for start in count(0, 3):
        publisher.publish(results.rows(start))
        publisher.publish(results.measured(start + 3))
        publisher.publish(results.decision(start + 3))
        publisher.publish(results.profile(source="accumulated", n_frames=start + 3))
        if start == 30:
            sys.stdout.write("running\n")
            sys.stdout.flush()


main(Path(sys.argv[1]))
