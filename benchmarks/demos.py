"""Does the demo stop its detector, and only where the sample moves? `python benchmarks/demos.py` prints a table.

It runs at twenty seeds, with a sample that moves and with one that does not; the exit code is 0 if the former was
stopped each time and the latter never. Each run is `ringwatch demo` as it is, in processes of its own. Several run at
once, which does not change their frames.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

LONGEST_RUN_S = 600.0
SAMPLES = {"moving": (), "static": ("--static", "1")}


class Run(NamedTuple):
    """What came of one demo; ``idle_s`` is None where the detector was not stopped."""

    seed: int
    frames: int
    idle_s: float | None
    last_words: str


def run(extra: Sequence[str], seed: int) -> Run:
    """One demo with its own folder and port."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ringwatch", "demo", "--seed", str(seed), "--page", "127.0.0.1:0"]
        ended = subprocess.run(  # noqa: S603 - our own command
            [*command, "--output", folder, *extra], capture_output=True, text=True, timeout=LONGEST_RUN_S, check=True
        )
    told = [line for line in ended.stdout.splitlines() if line.startswith("> ")]
    frames = re.search(r"^(\d+) frames in", ended.stdout, re.MULTILINE)
    stopped = re.search(r"^> Stopped at frame \d+: detector idle after ([\d.]+) s\.", told[-1])
    assert frames is not None, ended.stdout
    return Run(seed, int(frames[1]), float(stopped[1]) if stopped else None, told[-1])


def row(sample: str, runs: Sequence[Run]) -> str:
    """One line of the table."""
    frames, idle_s = [one.frames for one in runs], [one.idle_s for one in runs if one.idle_s is not None]
    slowest = f"{max(idle_s):.1f} s" if idle_s else "-"
    median = f"{statistics.median(frames):.0f} ({min(frames)}-{max(frames)})"
    return f"| {sample} | {len(idle_s)} of {len(runs)} | {median} | {slowest} |"


def main() -> int:
    """Run them all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many, from 1 on")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="demos that run at the same time")
    asked = parser.parse_args()
    seeds, surprises = range(1, asked.seeds + 1), []
    print("| sample | stopped | frames | detector idle after at most |\n|---|---|---|---|")
    for sample, extra in SAMPLES.items():
        with ThreadPoolExecutor(asked.at_once) as pool:
            runs = list(pool.map(partial(run, extra), seeds))
        print(row(sample, runs), flush=True)
        surprises += [one for one in runs if (one.idle_s is None) == (sample == "moving")]
    for one in surprises:
        print(f"seed {one.seed}: {one.last_words}")
    return min(1, len(surprises))


if __name__ == "__main__":
    sys.exit(main())
