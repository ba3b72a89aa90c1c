"""What a page draws, asked for by browsers: profiles as JSON, the summed image as raw numbers out, bounded in size."""

from collections.abc import Mapping
from math import isfinite
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ringwatch.clock import Clock
from ringwatch.messages import Profile, SmallImage
from ringwatch.publish.board import Board
from ringwatch.wire import to_json

WATCHED_S = 15.0
"""So long after a request for the image somebody is still looking at it: pages ask every 5 s."""
DIGITS = 6

_NOTHING = 204


class Views:
    """Answers to pages that draw; the image is a `Viewer`'s of the reduction.

    Parameters
    ----------
    board
        What is known now.
    clock
        Tells whether somebody still looks.
    """

    def __init__(self, board: Board, clock: Clock) -> None:
        self._board, self._clock, self._lock = board, clock, Lock()
        self._image: SmallImage | None = None
        self._asked_s: float | None = None

    @property
    def is_watching(self) -> bool:
        """Whether somebody has asked for the image of late."""
        asked_s = self._asked_s
        return asked_s is not None and self._clock.monotonic_s() - asked_s < WATCHED_S

    def show(self, image: SmallImage) -> None:
        """Keep an image for those who ask; from any thread, never waits for more than another such call."""
        with self._lock:
            self._image = image

    def routes(self) -> list[Route]:
        """All of them."""
        return [Route("/api/profiles", self._profiles), Route("/api/image", self._picture)]

    async def _profiles(self, request: Request) -> Response:
        """Profiles of the newest accumulation, the summed image's where there are such."""
        event, profiles = self._board.event, self._board.profiles()
        if event is None or not profiles:
            return Response(status_code=_NOTHING)
        tag = f'"{max(profile.time_ns for profile in profiles.values())}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        told = {
            "unique_id": event.origin.unique_id,
            "generation": event.origin.generation,
            "unit": event.unit,
            "radial": _rounded(event.radial),
            "profiles": {kind: _profile(profile) for kind, profile in profiles.items()},
        }
        return Response(to_json(told), headers={"ETag": tag}, media_type="application/json")

    async def _picture(self, request: Request) -> Response:
        """The newest image of the newest accumulation: counts as float32, or radial bins as uint16, little endian."""
        plane = request.query_params.get("of", "counts")
        if plane not in {"counts", "bins"}:
            return Response(to_json({"error": "of is counts or bins"}), 400, media_type="application/json")
        self._asked_s = self._clock.monotonic_s()
        with self._lock:
            image = self._image
        event = self._board.event
        if image is None or event is None or image.origin.key[0] != event.origin.key[0]:
            return Response(status_code=_NOTHING)
        headers = _image_headers(image, plane) | {"Ringwatch-Bins": str(event.radial.size)}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        content = image.counts.astype("<f4") if plane == "counts" else image.bins.astype("<u2")
        return Response(content.tobytes(), headers=headers, media_type="application/octet-stream")


def _image_headers(image: SmallImage, plane: str) -> dict[str, str]:
    rows, columns = image.counts.shape
    tag = f"{image.time_ns}" if plane == "counts" else image.origin.digest
    return {
        "ETag": f'"{plane}-{tag}"',
        "Ringwatch-Shape": f"{rows} {columns}",
        "Ringwatch-Frames": str(image.n_frames),
    }


def _profile(profile: Profile) -> Mapping[str, Any]:
    measured = profile.count > 0
    return {
        "source": profile.source,
        "n_frames": profile.n_frames,
        "warning": profile.warning,
        "intensity": _rounded(np.where(measured, profile.intensity, np.nan)),
    }


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    """As many digits as can be seen: a third of the bytes; None for NaN."""
    return [float(f"{value:.{DIGITS}g}") if isfinite(value) else None for value in values.tolist()]
