"""Result files in, their union in another one out: sums, images, rows and fates are added."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce as fold
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringwatch.clock import SystemClock
from ringwatch.messages import Fates, Profile
from ringwatch.publish.result_file import StoredResult, read_result, write_result
from ringwatch.service.offline import RefusedError, Summary
from ringwatch_gpu.sums import RingSums


def merge(paths: Sequence[Path], out: Path) -> Summary:
    """Union of several results of the same digest.

    Raises
    ------
    DigestMismatch
        They were made with different geometries, masks or norms.
    RefusedError
        One of them is given twice: its frames would count twice.
    ResultFileError
        A file cannot be read or written.
    """
    parts = [read_result(path) for path in paths]
    _require_different(paths, parts)
    union = fold(add, map(_stored_sums, parts))
    first = parts[0]
    merged = replace(
        first,
        time_ns=SystemClock().time_ns(),
        reason="merged",
        header={"merged": ", ".join(path.name for path in paths)},
        n_frames=union.n_frames,
        sums=union.words,
        image_sum=_added([part.image_sum for part in parts]),
        image_lost=_added([part.image_lost for part in parts]),
        fates=fold(_added_fates, (part.fates for part in parts)),
        missing=(),
    )
    profile = Profile(
        merged.origin,
        merged.time_ns,
        "mean",
        "union",
        "all",
        union.n_frames,
        radial=first.radial,
        **vars(union.profile),
    )
    write_result(out, merged, config=first.config, profiles=[profile], frames=[part.frames for part in parts])
    return Summary(out, union.n_frames)


def _require_different(paths: Sequence[Path], parts: Sequence[StoredResult]) -> None:
    seen: dict[tuple[str, int], Path] = {}
    for path, part in zip(paths, parts, strict=True):
        first = seen.setdefault((part.origin.unique_id, part.origin.generation), path)
        if first is not path:
            raise RefusedError(f"{first} and {path} are the same accumulation: its frames would count twice")


def _added(images: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Sum of the images, None if one of the results has none."""
    known = [image for image in images if image is not None]
    return fold(np.add, known) if len(known) == len(images) else None


def _added_fates(a: Fates, b: Fates) -> Fates:
    numbers = ("received", "reduced", "late", "foreign", "duplicate", "skipped", "missing")
    return Fates(
        **{name: getattr(a, name) + getattr(b, name) for name in numbers},
        malformed=Counter(a.malformed) + Counter(b.malformed),
        excluded=Counter(a.excluded) + Counter(b.excluded),
    )


def _stored_sums(stored: StoredResult) -> RingSums:
    return RingSums(stored.sums, stored.n_frames, stored.digest, stored.norm_quantum, stored.exact)
