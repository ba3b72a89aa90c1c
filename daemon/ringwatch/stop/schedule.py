"""When to look next: rarely while the target is far, at least every 5 % when it is near."""

import math

FIRST_FRAMES = 8
CONFIRMING = 1.01
"""Two looks in a row share nearly all frames whatever the distance between them: a small one costs less beam time."""

_COARSE = math.sqrt(2)
_FINE = 1.05
_FINEST = 1.01
_NEAR = 1.3


def next_evaluation(n_frames: int, forecast_frames: float | None, limit_ratio: float, *, is_armed: bool) -> int:
    """Number of frames at the next evaluation.

    Parameters
    ----------
    n_frames
        At this evaluation.
    forecast_frames
        Where the target is expected; None if that is not known, or never.
    limit_ratio
        Variance at the confidence limit over that at the target: so many times the frames are needed, if all are
        independent, until one is sure. At most 1 where one is.
    is_armed
        The target was met for the first time.
    """
    if n_frames < FIRST_FRAMES:
        return FIRST_FRAMES
    step = _COARSE
    if is_armed:
        step = CONFIRMING
    elif forecast_frames is not None and forecast_frames < _NEAR * n_frames:
        step = min(_FINE, max(_FINEST, limit_ratio)) if limit_ratio > 1 else _FINE
    elif forecast_frames is not None:
        step = min(_COARSE, forecast_frames / n_frames / _FINE)  # not past the target in one coarse step
    return max(n_frames + 1, round(step * n_frames))
