"""A sample's name and a series' number in, a file name that is safe and free out."""

import re
from itertools import chain, count
from pathlib import Path

SAMPLE_CHARS = 128
NAME_CHARS = 200


def file_stem(template: str, sample: str, series: int) -> str:
    """Name of a result file without its ending: [A-Za-z0-9_.-] only, never empty, never a path, never hidden."""
    name = template.format(sample=_plain(sample)[:SAMPLE_CHARS] or "sample", series=series)
    return _plain(name)[:NAME_CHARS] or "result"


def free_name(folder: Path, stem: str) -> str:
    """The stem, or the first of stem_2, stem_3 ... that neither a final nor a live file has."""
    names = chain([stem], (f"{stem}_{n}" for n in count(2)))
    return next(n for n in names if not final_path(folder, n).exists() and not live_path(folder, n).exists())


def final_path(folder: Path, name: str) -> Path:
    """The file of a finished accumulation."""
    return folder / f"{name}.h5"


def live_path(folder: Path, name: str) -> Path:
    """The file that grows while the series runs."""
    return folder / f"{name}.live.h5"


def state_name(source: str) -> str:
    """The hidden file of what is needed after a crash; each source of frames has its own in a folder."""
    return f".ringwatch-{_plain(source)[-NAME_CHARS:]}.state"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).lstrip("._-")
