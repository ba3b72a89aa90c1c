"""Faults planted one at a time into a copy of the sources, whether a named test notices out. Run by `make mutants`.

Each fault of faults.toml is a mistake that somebody could make: a text in a file, what it becomes, the test that must
fail then, and what the mistake would do at a beamline. The exit code is 1 if a test did not notice, or if a fault no
longer fits the sources: then it is to be rewritten, not deleted.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

ROOT = Path(__file__).parents[2]
SOURCES = ("daemon", "gpu", "tests", "pyproject.toml")
PYTEST = ("-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:cacheprovider", "--hypothesis-seed=0")
TIME_LIMIT_S = 60
WORKERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Fault:
    """A mistake: in ``file`` the text ``old`` becomes ``new``, and ``test`` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str
    consequence: str

    def plant(self, tree: Path) -> None:
        """Make the mistake in a copy; raises ValueError where the text is not found exactly once."""
        path = tree / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"the text occurs {text.count(self.old)} times in {self.file}, not once")
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: ``killed`` and by what, or why not."""

    killed: bool
    words: str
    seconds: float = 0.0


def read_faults() -> list[Fault]:
    """All faults, in the order of the file."""
    tables = tomllib.loads(Path(__file__).with_name("faults.toml").read_text())
    return [Fault(name, **table) for name, table in tables.items()]


def copy_sources(tree: Path) -> None:
    """The part of the repository that tests need."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)


def run_tests(tree: Path, cache: Path, tests: Sequence[str], limit_s: float) -> tuple[int, str]:
    """Exit code and output of pytest in a copy; raises subprocess.TimeoutExpired."""
    changes = {
        "PYTHONPATH": f"{tree / 'daemon'}{os.pathsep}{tree / 'gpu'}",  # before the editable installation
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(cache),  # a fault must not reach the user's geometries and kernels
        "COLUMNS": "400",
    }
    done = subprocess.run(
        [sys.executable, *PYTEST, *tests],
        cwd=tree,
        env=os.environ | changes,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
        check=False,
    )
    return done.returncode, done.stdout


def judge(returncode: int, output: str) -> tuple[bool, str]:
    """Whether a test noticed, and which; a fault that does not even compile proves nothing."""
    if returncode == 0:
        return False, "SURVIVED"
    if returncode < 0:
        return True, f"crash (signal {-returncode})"
    failed = re.search(r"^(?:FAILED|ERROR) \S*?::(.*?)(?: - (.*))?$", output, re.MULTILINE)
    if failed is None:
        return False, f"NO TEST RAN: {output.strip()[-200:]}"
    if "KernelBuildError" in (failed[2] or ""):
        return False, "DOES NOT COMPILE"
    return True, failed[1]


def try_fault(fault: Fault, cache: Path) -> Verdict:
    """Plant a fault in a fresh copy and run the test that must notice."""
    before_s = time.monotonic()
    with TemporaryDirectory(prefix="ringwatch-mutant-") as folder:
        tree = Path(folder)
        copy_sources(tree)
        try:
            fault.plant(tree)
            killed, words = judge(*run_tests(tree, cache, [fault.test], TIME_LIMIT_S))
        except ValueError as error:
            killed, words = False, f"MISPLACED: {error}"
        except subprocess.TimeoutExpired:
            killed, words = True, "hang"
    return Verdict(killed, words, time.monotonic() - before_s)


def check_unmutated(faults: Sequence[Fault], cache: Path) -> None:
    """Raise ClickException unless the named tests exist and pass in a copy without any fault, none of them skipped."""
    tests = list(dict.fromkeys(fault.test for fault in faults))
    with TemporaryDirectory(prefix="ringwatch-mutant-") as folder:
        tree = Path(folder)
        copy_sources(tree)
        returncode, output = run_tests(tree, cache, tests, TIME_LIMIT_S * len(tests))
    if returncode != 0 or "SKIPPED" in output:
        raise click.ClickException(f"the tests do not pass without any fault, or were skipped:\n{output}")


@click.command()
@click.option("--only", metavar="NAME", multiple=True, help="Try this fault only; may be repeated.")
@click.option("--list", "only_list", is_flag=True, help="Say what the faults are, and try none.")
def main(only: tuple[str, ...], *, only_list: bool) -> None:
    """Plant faults one at a time and see whether the tests notice."""
    known = {fault.name: fault for fault in read_faults()}
    if unknown := set(only) - known.keys():
        raise click.BadParameter(f"no such fault: {', '.join(sorted(unknown))}")
    faults = [known[name] for name in only or known]
    if only_list:
        for fault in faults:
            click.echo(f"{fault.name:36} {fault.file}\n    {fault.consequence}\n    {fault.test}")
        return
    sys.exit(try_all(faults))


def try_all(faults: Sequence[Fault]) -> int:
    """Try the faults and print a table; 1 if any was not killed."""
    before_s = time.monotonic()
    with TemporaryDirectory(prefix="ringwatch-mutant-cache-") as folder, ThreadPoolExecutor(WORKERS) as pool:
        cache = Path(folder)
        check_unmutated(faults, cache)
        click.echo(f"{'fault':36} {'s':>5}  killed by")
        missed = 0
        for fault, verdict in zip(faults, pool.map(lambda fault: try_fault(fault, cache), faults), strict=True):
            click.echo(f"{fault.name:36} {verdict.seconds:5.1f}  {verdict.words}")
            missed += not verdict.killed
            if not verdict.killed:
                click.echo(f"    {fault.consequence}")
    click.echo(f"{len(faults) - missed} of {len(faults)} faults killed in {time.monotonic() - before_s:.0f} s")
    return min(1, missed)


if __name__ == "__main__":
    main()
