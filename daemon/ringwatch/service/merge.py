"""Result files in, their union in another one out: sums, images, rows and fates are added."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce as fold
from operator import add
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ringwatch.clock import SystemClock
from ringwatch.messages import Profile
from ringwatch.publish.result_file import StoredResult, read_result, write_result
from ringwatch.service.offline import RefusedError, Summary
from ringwatch_gpu.sums import SUM_ROWS, ErrorModel, RingSums


def merge(paths: Sequence[Path], out: Path) -> Summary:
    """Union of several results of the same digest: the sums of all their frames reduced together, bit for bit.

    Raises
    ------
    RefusedError
        They were made with different geometries, masks, norms or monitors, one of them holds no sums, or one is given
        twice: its frames would count twice.
    ResultFileError
        A file cannot be read or written.
    """
    parts = [read_result(path) for path in paths]
    _require_different(paths, parts)
    _require_same_digest(paths, parts)
    union = fold(add, (_stored_sums(path, part) for path, part in zip(paths, parts, strict=True)))
    merged = _merged(paths, parts, union)
    model, mean = _error_model(merged), union.profile
    mean = mean if model == "azimuthal" else mean.with_variance(union.noise_signal)
    profile = Profile(
        merged.origin, merged.time_ns, "mean", "union", "all", union.n_frames, merged.radial,
        **vars(mean), error_model=model,
    )  # fmt: skip
    write_result(out, merged, config=merged.config, profiles=[profile], frames=[part.frames for part in parts])
    return Summary([out], union.n_frames)


def _merged(paths: Sequence[Path], parts: Sequence[StoredResult], union: RingSums) -> StoredResult:
    exposures = [part.exposure for part in parts if part.exposure is not None]
    return replace(
        parts[0],
        origin=replace(parts[0].origin, unique_id=uuid.uuid4().hex, generation=1, accumulation=""),
        time_ns=SystemClock().time_ns(),
        reason="merged",
        header={"merged": ", ".join(path.name for path in paths)},
        n_frames=union.n_frames,
        sums=union.words,
        image_sum=_added([part.image_sum for part in parts]),
        image_lost=_added([part.image_lost for part in parts]),
        image_lost_exposure=_added([part.image_lost_exposure for part in parts]),
        exposure=sum(exposures) if exposures else None,
        fates=fold(add, (part.fates for part in parts)),
        missing=(),
        window="all",
        parts=tuple(name for part in parts for name in _names(part)),
    )


def _names(part: StoredResult) -> tuple[str, ...]:
    """The accumulations whose frames are in a result."""
    accumulation, generation = part.origin.key
    return part.parts or (f"{accumulation} {generation}",)


def _require_different(paths: Sequence[Path], parts: Sequence[StoredResult]) -> None:
    seen: dict[str, Path] = {}
    for path, part in zip(paths, parts, strict=True):
        for name in _names(part):
            first = seen.setdefault(name, path)
            if first is not path:
                raise RefusedError(f"{first} and {path} hold the same accumulation: its frames would count twice")


def _require_same_digest(paths: Sequence[Path], parts: Sequence[StoredResult]) -> None:
    for path, part in zip(paths, parts, strict=True):
        if part.digest != parts[0].digest:
            found = ", ".join(_differences(parts[0], part)) or "the mask, or pixels that a file or the header names"
            raise RefusedError(f"{paths[0]} and {path} cannot be merged: they differ in {found}")


def _differences(a: StoredResult, b: StoredResult) -> list[str]:
    """What is known to be different, with the values where they are short."""
    pairs = {
        "radial bins": (a.radial.size, b.radial.size),
        "radial unit": (a.unit, b.unit),
        "whether sums tell the noise of split pixels": (_tells_noise(a), _tells_noise(b)),
        "radial range": tuple(f"{part.edges[0]:.6g} to {part.edges[-1]:.6g}" for part in (a, b)),
        "monitor reference": (a.monitor_reference, b.monitor_reference),
        **{f"geometry.{key}": values for key, values in _settings(a, b).items()},
    }
    told = [f"{name} ({one} and {other})" for name, (one, other) in pairs.items() if one != other]
    return told + ["the PONI file"] * (a.poni != b.poni)


def _tells_noise(part: StoredResult) -> bool:
    return part.sums is not None and len(part.sums) == len(SUM_ROWS)


def _settings(a: StoredResult, b: StoredResult) -> dict[str, tuple[object, object]]:
    """What their configurations say of the geometry, but for where the PONI file was and what the sums do not know."""
    one, other = (json.loads(part.config).get("geometry") or {} for part in (a, b))
    names = sorted({*one, *other} - {"poni", "unit", "bins", "radial_range", "dummy"})
    return {name: (one.get(name), other.get(name)) for name in names}


def _added(images: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Sum of the images, None if one of the results has none."""
    known = [image for image in images if image is not None]
    return fold(np.add, known) if len(known) == len(images) else None


def _error_model(stored: StoredResult) -> ErrorModel:
    """The model of the configuration where the sums alone tell it: not with a dark or another variance of a pixel."""
    config = json.loads(stored.config)
    profiles, geometry = config.get("profiles") or {}, config.get("geometry") or {}
    is_plain = geometry.get("dark") is None and profiles.get("variance", "off") == "off"
    named = profiles.get("error_model") if is_plain else None
    return next((model for model in get_args(ErrorModel) if model == named), "azimuthal")


def _stored_sums(path: Path, stored: StoredResult) -> RingSums:
    if stored.sums is None:
        raise RefusedError(f"{path} holds single frames (accumulate.scope = frame): there is no union to merge")
    units = stored.norm_quantum, stored.signal_quantum
    return RingSums(stored.sums, stored.n_frames, stored.digest, *units, is_exact=stored.exact)
