"""A finished accumulation in, lines for a person out."""

from ringwatch.messages import Spottiness
from ringwatch.service.offline import Summary


def summary_lines(summary: Summary) -> list[str]:
    """What was measured, and where the file is."""
    lines = [f"{summary.frames} frame{'s'[: summary.frames != 1]} reduced"]
    snapshot = summary.snapshot
    if snapshot is not None:
        if snapshot.union is not None:
            lines.append(spottiness_line("union of the frames", snapshot.union))
        if snapshot.accumulated is not None:
            lines.append(spottiness_line("summed image", snapshot.accumulated.spottiness))
            lines.append(spottiness_line("averaged image", snapshot.accumulated.averaged))
        malformed = snapshot.fates.malformed.total()
        if malformed:
            lines.append(f"{malformed} frames could not be decoded: {dict(snapshot.fates.malformed)}")
        if snapshot.fates.excluded:
            lines.append(f"{snapshot.fates.excluded.total()} frames were excluded: {dict(snapshot.fates.excluded)}")
    if summary.decision is not None:
        lines.append(summary.decision.sentence)
    if summary.warning is not None:
        lines.append(f"profiles of single frames: {summary.warning}")
    return [*lines, *(f"result: {path}" for path in summary.paths)]


def spottiness_line(what: str, numbers: Spottiness) -> str:
    """The three numbers, and the class where there is one."""
    rings = "none" if numbers.spottiness_rings is None else f"{numbers.spottiness_rings:.4f}"
    found = f" ({numbers.spottiness_class})" if numbers.spottiness_class else ""
    return (
        f"  {what + ':':22} spottiness {numbers.spottiness:.4f}{found}, weighted {numbers.spottiness_weighted:.4f}, "
        f"well-measured rings {rings}"
    )
