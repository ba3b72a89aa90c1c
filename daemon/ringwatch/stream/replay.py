"""A file of recorded frames and a `Sender` in, the same frames as a detector's stream out."""

from pathlib import Path

from ringwatch.messages import SeriesStart
from ringwatch.stream.frames_file import FramesFile
from ringwatch.stream.sender import Progress, Sender, SendReport


def replay(
    sender: Sender,
    path: str | Path,
    n_frames: int | None = None,
    *,
    rate_hz: float = 0.0,
    series: int = 1,
    progress: Progress | None = None,
) -> SendReport:
    """Send a series of recorded frames; compressed HDF5 chunks pass through unchanged.

    Parameters
    ----------
    path
        What `FramesFile` reads.
    n_frames
        Length of the series; by default each frame once. Beyond the last frame the file begins again.
    rate_hz
        Frames a second; 0 = as fast as it goes.

    Raises
    ------
    ConfigError
        The file cannot be read.
    StreamError
        No receiver came, or it takes nothing any more.
    UnsupportedEncoding
        The protocol has no name for this type of pixels.
    """
    with FramesFile(path) as file:
        n_frames = file.n_frames if n_frames is None else n_frames
        start = SeriesStart(
            series=series,
            header={"detector_description": f"replay of {file.name}"},
            shape=file.shape,
            dtype=file.dtype,
            frames_expected=n_frames,
            frame_time_s=1 / rate_hz if rate_hz else None,
            pixel_mask=file.pixel_mask,
        )
        frames = ((number, file.encoded(number % file.n_frames)) for number in range(n_frames))
        return sender.send(start, frames, rate_hz, progress)
