"""The configuration's types: one class a section of the TOML file, one field a key, its meaning written under it.

These texts are the documentation: docs/configuration.md, the JSON schema and the comments of every generated file.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from ringwatch.config.keys import keys_of
from ringwatch.config.mistakes import sentences
from ringwatch.config.section import Section
from ringwatch.config.stop import MAX_FRAMES, RingsConfig, StopConfig
from ringwatch.config.values import (
    Bindable,
    Connectable,
    FileName,
    FilePattern,
    HostPort,
    HttpUrl,
    ImageSource,
    IPv4Interface,
    MemoryBytes,
    ReadableFile,
    ReadableFolder,
    SecretFile,
    Token,
    WritableFolder,
    default_memory_bytes,
)
from ringwatch.errors import ConfigError

SMALLEST_QUANTUM = 2.0**-16
MAX_BINS = 65534
"""The bin table is uint16, and one value of it means "no bin"."""


def _with_counts(channel: str) -> str:
    if channel == "difference":
        raise ValueError(
            "holds no data, or zero, wherever it would be negative, which is a third of the pixels of a weak pattern: "
            "its mean is too high and its scatter is none of the powder's. Choose a threshold, as threshold_1"
        )
    return channel


Channel = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_with_counts)]


class StreamConfig(Section):
    """Where the frames come from. Protocols are told apart message by message; docs/sources.md lists them."""

    endpoint: Connectable | None = None
    """Address of the detector's stream: tcp://HOST:PORT or ipc://PATH. The port is usually 9999 for v1 and 31001 for
    v2. Never share a port with another receiver, unless it is one to subscribe to (see `socket`): each of the two would
    lose every second frame."""

    socket: Literal["pull", "sub"] = "pull"
    """What the other end is: "pull" takes from a PUSH socket, which deals its frames out, as detectors and their relays
    do; "sub" subscribes to a PUB socket, as Jungfraujoch's preview. Any number may subscribe, but who publishes leaves
    frames out: on purpose, as a preview, or because a subscriber is slow. They are counted as missing, and with "sub"
    missing frames do not forbid an automatic stop."""

    follow: FilePattern | None = Field(default=None, examples=["/data/**/scan*/eiger_*.h5"], validate_default=True)
    """Instead of `endpoint`: files that are reduced as they are written, HDF5 or any image that fabio reads; ** stands
    for any folders, ::/PATH behind it names the dataset. Files of one folder whose names differ in their last number
    are a series. A file is read, and nothing more, once it is complete (see `settle_s`);
    the series is over when nothing has changed for `end_timeout_s`, or the next one has begun."""

    settle_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """A followed file that has not changed for so long is taken for complete, unless it says that it is being written
    or lacks frames. To be longer than the time between two writes into it."""

    channel: Channel = "threshold_1"
    """Which of the detector's images is reduced where it sends several (stream v2): threshold_1, threshold_2, ... By
    default also the only one, whatever it is called; not "difference", in which negative pixels hold no data."""

    policy: Literal["skip", "block"] = "skip"
    """What gives way when frames come faster than they are reduced. "skip" leaves out the oldest ones that wait, counts
    them and keeps the newest: it costs frames, never the detector's time. "block" takes no more from the socket: a
    sender that waits is slowed down; a detector does not wait, it loses frames itself, and only its own counter tells
    (see `simplon`)."""

    memory_bytes: MemoryBytes = Field(default_factory=default_memory_bytes)
    """Memory for frames that wait to be reduced."""

    simplon: HttpUrl | None = Field(default=None, examples=["http://10.42.41.10"])
    """Control unit of a DECTRIS detector, which is asked every two seconds of a series how many frames it has dropped.
    Without it: the one that `stop.url` names, where `stop.via` is "simplon"."""

    end_timeout_s: Annotated[float, Field(gt=0, le=86400)] = 10.0
    """A series that stays silent for so long is closed, never sooner than five of its frame times."""

    late_s: Annotated[float, Field(ge=0, le=60)] = 1.0
    """How long frames are still accepted after the detector's end message, which can overtake them."""

    @field_validator("follow")
    @classmethod
    def _is_the_only_source(cls, follow: str | None, info: ValidationInfo) -> str | None:
        if "endpoint" not in info.data:  # it is wrong, and told so
            return follow
        if follow is None and info.data["endpoint"] is None:
            raise ValueError(
                "stream.endpoint is missing: the address of the detector's stream, as in "
                'endpoint = "tcp://10.1.2.3:9999"; or this, a pattern of files'
            )
        if follow is not None and info.data["endpoint"] is not None:
            raise ValueError("there is an endpoint, too: a series comes either from the stream or from files")
        return follow

    @property
    def source(self) -> str:
        """Where frames come from."""
        return self.endpoint or self.follow or ""


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] >= limits[1]:
        raise ValueError("the lower limit comes first")
    return limits


def _power_of_two(quantum: float) -> float:
    if math.frexp(quantum)[0] != 0.5 or quantum < SMALLEST_QUANTUM:
        raise ValueError("should be a power of two from 0.0000152587890625 (1/65536) to 1, as 0.00390625 (1/256)")
    return quantum


RadialLimit = Annotated[float, Field(ge=0, le=1e6)]
DummyValue = Annotated[int, Field(ge=-(1 << 31), le=(1 << 32) - 1)]


class GeometryConfig(Section):
    """Which pixel belongs to which radial bin, and which pixels do not count."""

    poni: Annotated[ReadableFile, Field(examples=["detector.poni"])]
    """Calibration of the detector as pyFAI writes it (a PONI file), with the parallax of a thick sensor where it
    says so."""

    unit: Literal["2th_deg", "2th_rad", "q_nm^-1", "q_A^-1", "r_mm"] = "2th_deg"
    """Radial axis, in pyFAI's names."""

    bins: Literal["pixel"] | Annotated[int, Field(ge=1, le=MAX_BINS)] = "pixel"
    """Number of radial bins; "pixel" makes each about one pixel wide, as the classes of spottiness need it."""

    radial_range: Annotated[tuple[RadialLimit, RadialLimit], AfterValidator(_ascending), Field(strict=False)] | None = (
        Field(default=None, examples=[[2.0, 20.0]])
    )
    """[lowest, highest] value on the radial axis, in its unit. Without it: the whole detector."""

    mask: ImageSource | None = Field(default=None, examples=["mask.edf"])
    """Image of pixels to ignore (1 = ignore), in any format that fabio reads, or FILE.h5::/PATH. It is added to the
    detector's own mask and to the one in the stream."""

    dummy: Literal["auto"] | Annotated[tuple[DummyValue, ...], Field(strict=False, max_length=16)] = "auto"
    """Pixel values that mean "invalid in this frame". "auto" takes the largest value of an unsigned type (for 32 bits
    also the one below), all negative values of a signed one, and what fills the gaps between the modules. With a list
    all others count, negative ones of a signed type too; but floats have to be finite numbers."""

    solid_angle: bool = True
    """Correct for the solid angle of each pixel."""

    polarization: Literal["none"] | Annotated[float, Field(ge=-1, le=1)] = 0.99
    """Polarization factor of the beam: 1 horizontal, -1 vertical, 0 unpolarized; "none" for no correction."""

    flat: ImageSource | None = Field(default=None, examples=["flat.edf"])
    """Sensitivity of each pixel: counts are divided by it, as by pyFAI's flat. In any format that fabio reads, or
    FILE.h5::/PATH; pixels without a positive number are ignored. Without it, the flat field in the stream is used where
    the detector says that it did not apply it. (DECTRIS files hold the inverse: counts are multiplied by it.)"""

    absorption: ImageSource | None = Field(default=None, examples=["absorption.edf"])
    """Share of the photons that reaches each pixel: counts are divided by it, as by pyFAI's absorption. Files as for
    `flat`."""

    dark: ImageSource | None = Field(default=None, examples=["dark.edf"])
    """What each pixel counts without a beam in one frame: it is taken off the counts, as by pyFAI's dark. Dummies and
    saturation are looked for before. Files as for `flat`; pixels without a finite number are ignored."""

    quantum: Literal["auto"] | Annotated[float, Field(gt=0, le=1), AfterValidator(_power_of_two)] = "auto"
    """What counts are rounded to: a power of two. Their sums are exact. "auto" takes 1 for integers, but 0.00390625
    (1/256) where there is a dark or where pixels are floats; then counts beyond 2^30 of these are invalid."""

    splitting: Literal["no", "bbox", "full"] = "no"
    """"no": each pixel belongs to the bin of its centre, which keeps all sums exact. "bbox" and "full" split it among
    the bins that it reaches, as pyFAI does: smooth profiles where bins are finer than pixels, sums good to float64,
    twice the time. What is said of sectors, rings and grains always rests on whole pixels."""

    @property
    def dummies(self) -> tuple[int, ...] | None:
        """The listed dummy values; None for "auto"."""
        return None if self.dummy == "auto" else self.dummy

    @property
    def chosen_quantum(self) -> float | None:
        """The quantum; None for "auto"."""
        return None if self.quantum == "auto" else self.quantum

    @property
    def polarization_factor(self) -> float | None:
        """The factor; None for "none"."""
        return None if self.polarization == "none" else self.polarization


class VarianceConfig(Section):
    """Variance of a pixel from its signal: gain x signal + readout^2."""

    gain: Annotated[float, Field(ge=0, le=1e6)]
    readout: Annotated[float, Field(ge=0, le=1e6)]


class SigmaClipConfig(Section):
    """How far is too far, and how often it is looked at anew."""

    thres: Annotated[float, Field(ge=0, le=100)] = 5.0
    max_iter: Annotated[int, Field(ge=1, le=100)] = 5


def _in_order(quantiles: tuple[float, float]) -> tuple[float, float]:
    if quantiles[0] > quantiles[1]:
        raise ValueError("the lower quantile comes first")
    return quantiles


Quantile = Annotated[float, Field(ge=0, le=1)]


class ProfilesConfig(Section):
    """The azimuthal profiles: the mean, and three of the summed image that leave outliers out.

    These three are made at once, every ten intervals and at the end; where pixels are split, only the quantiles.
    """

    interval_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Time between two evaluations of the accumulated statistics, which also publish the profiles."""

    error_model: Literal["azimuthal", "poisson", "hybrid"] = "azimuthal"
    """What the variance of a profile is, and with it std and sem. "azimuthal": that of the pixels of a bin about their
    mean; "poisson": that of their counts; "hybrid": likewise, but sigma clipping looks at the azimuthal one, so that
    spots do not empty whole rings. Spottiness is azimuthal with each of them."""

    variance: Literal["off"] | VarianceConfig = Field(default="off", examples=[{"gain": 1.0, "readout": 0.0}])
    """For detectors that count no single photons: the variance of a pixel of one frame is `gain` x signal + `readout`
    squared, in counts of the detector. It takes the place of `error_model` in the mean profiles, and that of the photon
    noise in the statistics of the spots. Without it, the noise is that of the counts before a dark is taken off."""

    sigma_clip: Literal["off"] | SigmaClipConfig = Field(default=SigmaClipConfig(), examples=["off"])
    """Mean without the pixels that are more than `thres` standard deviations from it, as pyFAI's sigma clipping: with
    Chauvenet's limit where that is larger (everywhere, if `thres` is 0), anew with the pixels that are left, at most
    `max_iter` times."""

    quantile: Literal["off"] | Annotated[tuple[Quantile, Quantile], AfterValidator(_in_order), Field(strict=False)] = (
        Field(default=(0.5, 0.5), examples=["off"])
    )
    """Mean of the pixels between two quantiles, those at the ends in part; [0.5, 0.5] is the median. It means little
    below some 20 counts a pixel."""

    median_clip: bool = True
    """Mean of the pixels that agree with the noise of counts to four sigma: about the median first, then about the mean
    of what is left. For photon-counting detectors; of the three it stands the most spots."""


class WindowConfig(Section):
    """Which of the frames are added up. Also written in one line: window = {kind = "every", frames = 1000}."""

    kind: Literal["all", "last", "every"] = "all"
    """"all": all of them. "every": in blocks; the sums and the summed image start anew with each, its final results are
    published and written. "last": all of them, but the profile and the spottiness of the union are those of the last
    frames only; their sums are held in memory, at most 1 GiB."""

    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)] | None = Field(default=None, examples=[1000])
    """Length of a block, or how many of the last frames."""

    seconds: Annotated[float, Field(gt=0, le=86400)] | None = Field(default=None, examples=[60.0])
    """The same in time of arrival, instead of `frames`."""

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        lengths = (self.frames is not None) + (self.seconds is not None)
        if lengths != (self.kind != "all"):
            raise ValueError('kind = "all" has no length, "last" and "every" have one: either frames or seconds')
        return self

    @property
    def text(self) -> str:
        """What messages and files call it."""
        if self.kind == "all":
            return "all"
        return f"{self.kind} {self.frames} frames" if self.seconds is None else f"{self.kind} {self.seconds:g} s"


class AccumulateConfig(Section):
    """What is added up."""

    scope: Literal["series", "sample", "frame"] = "series"
    """"series": accumulation starts anew with each series. "sample": it goes on over series of equal geometry until the
    header or POST /api/sample names another sample. "frame": frames are reduced one by one, as for maps; nothing is
    added up."""

    monitor_reference: Annotated[float, Field(gt=0)] | None = Field(default=None, examples=[1e6])
    """The usual counts of the beam monitor in a frame, for `ringwatch reduce --i0` and for `monitor_wait_s`: norms are
    multiplied by I0 / this, so that intensities are those at this value. Only results of equal references can be
    merged."""

    monitor_wait_s: Annotated[float, Field(gt=0, le=3600)] | None = Field(default=None, examples=[5.0])
    """Frames of the live stream are weighed with their beam monitor, which comes by POST /api/i0: each waits for its
    reading, at most so long after its arrival; without one it is excluded. They wait in `stream.memory_bytes`."""

    window: WindowConfig = Field(default_factory=WindowConfig)

    @field_validator("monitor_wait_s")
    @classmethod
    def _has_a_reference(cls, wait_s: float | None, info: ValidationInfo) -> float | None:
        if wait_s is not None and info.data.get("monitor_reference") is None:
            raise ValueError("monitor_reference is needed with it: the usual counts of the monitor in a frame")
        return wait_s

    @field_validator("window")
    @classmethod
    def _adds_up(cls, window: WindowConfig, info: ValidationInfo) -> WindowConfig:
        if info.data.get("scope") == "frame" and window.kind != "all":
            raise ValueError('scope = "frame" adds nothing up, so that there is no window')
        return window


class ZmqConfig(Section):
    """Results for programs: ZeroMQ, MessagePack."""

    bind: Bindable = "tcp://127.0.0.1:5560"
    """Where results are published; tcp://*:5560 is reachable from other machines, port 0 is any free one."""

    secret_key: SecretFile | None = Field(default=None, examples=["keys/daemon.key_secret"])
    """File with the secret key of this daemon, as `ringwatch keys` writes it. With it results travel encrypted (CURVE),
    and only to programs that know its public key."""

    clients: ReadableFolder | None = Field(default=None, examples=["keys/clients"])
    """Folder with the public keys (*.key) of the only programs that get results; read at start and at a reload. Without
    it: all that know the public key of the daemon. Needs `secret_key`."""

    @field_validator("clients")
    @classmethod
    def _are_recognised(cls, clients: Path | None, info: ValidationInfo) -> Path | None:
        if clients is not None and info.data.get("secret_key", clients) is None:
            raise ValueError("needs secret_key: without it nobody is asked for a key")
        return clients


class Hdf5Config(Section):
    """Results as files, one a series. Without this section no files are written."""

    root: Annotated[WritableFolder, Field(examples=["/data/ringwatch"])]
    """Existing folder for the files, on a local disk."""

    name: FileName = "{sample}_{series:06d}"
    """Name of a file without its ending. {sample} is the sample's name, {series} (here with six digits) the detector's
    number of the series."""

    instrument: Annotated[str, Field(min_length=1, max_length=100, examples=["ID11"])] = "unknown"
    """Name of the beamline, as it stands in the files."""

    source: Annotated[str, Field(min_length=1, max_length=100, examples=["ESRF"])] = "unknown"
    """Name of the laboratory, as it stands in the files."""

    frames: Literal["profiles", "sums", "none"] = "profiles"
    """What is stored of each frame besides its row: "profiles" its intensity and sem (some 2 MB/s at 200 Hz and 1600
    bins), "sums" the exact sums of its bins, of which any union can be made (about four times as much), or "none"."""

    also: Annotated[tuple[Literal["xye", "png"], ...], Field(strict=False, max_length=2)] = ()
    """What else is written beside each file at its end: "xye" is the mean profile as text, for Rietveld refinement
    (two-theta in degrees, intensity, standard error); "png" is a figure of the result (needs 'ringwatch[plot]')."""

    flush_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Time between two writes to the disk: what is lost if the machine or ringwatch dies during a series. The next
    start goes on from there (sums are written at most every 2 s)."""


class EpicsConfig(Section):
    """The decision as EPICS process variables. Without this section there are none. Needs 'ringwatch[epics]'."""

    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-:.;<>\[\]]{1,40}$", examples=["BL12:RINGWATCH:"])]
    """What their names begin with; value, target, action and sentence follow. They are read-only."""

    interface: IPv4Interface = "127.0.0.1"
    """Address of the network card where they are served; 0.0.0.0 serves them to every network. The port is EPICS' own:
    EPICS_CA_SERVER_PORT, else 5064."""


class PublishConfig(Section):
    """Where results go."""

    zmq: ZmqConfig = Field(default_factory=ZmqConfig)
    hdf5: Hdf5Config | None = None
    epics: EpicsConfig | None = None


class WebConfig(Section):
    """The live page, /metrics for Prometheus, /healthz and /api."""

    bind: HostPort = "127.0.0.1:8080"
    """HOST:PORT; 0.0.0.0:8080 is reachable from other machines, port 0 is any free one."""

    token: Token | None = Field(default=None, examples=["what-openssl-rand-hex-16-prints"])
    """What scripts show to be allowed to stop, hold, reset, name a sample or bring the beam monitor: POST with the
    header "Authorization: Bearer TOKEN". Without a token nobody may."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as sockets want them."""
        host, _, port = self.bind.rpartition(":")
        return host, int(port)


class DeviceConfig(Section):
    """Which OpenCL device reduces the frames; `ringwatch devices` lists them."""

    platform: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(default=None, examples=["NVIDIA"])
    """Part of the platform's or the device's name, in upper or lower case. Without it: any."""

    type: Literal["gpu", "cpu"] | None = Field(default=None, examples=["gpu"])
    """Without it: a GPU, else a CPU."""


def _of_whole_pixels(profiles: ProfilesConfig, info: ValidationInfo) -> ProfilesConfig:
    """Clipping compares pixels with their own noise, of which a bin has only a part where they are split."""
    geometry = info.data.get("geometry")
    clipping = {"sigma_clip": profiles.sigma_clip != "off", "median_clip": profiles.median_clip}
    asked = [name for name, is_on in clipping.items() if is_on and name in profiles.model_fields_set]
    if geometry is not None and geometry.splitting != "no" and asked:
        raise ValueError(
            f'{" and ".join(asked)} need whole pixels: the parts that geometry.splitting = "{geometry.splitting}" '
            "makes scatter less than pixels do, so that clipping would keep the wrong ones; quantile works with parts"
        )
    if geometry is not None and geometry.splitting != "no":
        return profiles.model_copy(update={"sigma_clip": "off", "median_clip": False})
    return profiles


def unweighable(geometry: GeometryConfig, profiles: ProfilesConfig) -> list[str]:
    """What forbids a monitor: it weighs counts that are never negative, and scatter as counts do."""
    kinds = {
        "geometry.dark": geometry.dark is not None,
        "geometry.quantum": geometry.quantum != "auto",
        "profiles.variance": profiles.variance != "off",
    }
    return [name for name, is_on in kinds.items() if is_on]


Profiles = Annotated[ProfilesConfig, AfterValidator(_of_whole_pixels)]


class FilesConfig(Section):
    """What recorded frames are reduced with: a configuration without a stream and without publishers."""

    geometry: GeometryConfig
    profiles: Profiles = Field(default_factory=ProfilesConfig)
    accumulate: AccumulateConfig = Field(default_factory=AccumulateConfig)
    rings: RingsConfig = Field(default_factory=RingsConfig)
    stop: StopConfig | None = None
    device: DeviceConfig = Field(default_factory=DeviceConfig)

    @classmethod
    def for_poni(cls, poni: Path) -> Self:
        """Everything default but the calibration; raises ConfigError."""
        try:
            return cls.model_validate({"geometry": {"poni": poni}}, context={"folder": Path().absolute()})
        except ValidationError as error:
            raise ConfigError(sentences(error, {"geometry": {}}, keys_of(cls)), "command line") from None


class Config(Section):
    """Configuration of ringwatch."""

    stream: StreamConfig
    geometry: GeometryConfig
    profiles: Profiles = Field(default_factory=ProfilesConfig)
    accumulate: AccumulateConfig = Field(default_factory=AccumulateConfig)
    rings: RingsConfig = Field(default_factory=RingsConfig)
    stop: StopConfig | None = None
    publish: PublishConfig = Field(default_factory=PublishConfig)
    web: WebConfig = Field(default_factory=WebConfig, validate_default=True)
    device: DeviceConfig = Field(default_factory=DeviceConfig)

    @field_validator("accumulate")
    @classmethod
    def _can_be_weighed(cls, accumulate: AccumulateConfig, info: ValidationInfo) -> AccumulateConfig:
        geometry, profiles = info.data.get("geometry"), info.data.get("profiles")
        if accumulate.monitor_wait_s is not None and geometry is not None and profiles is not None:
            asked = unweighable(geometry, profiles)
            if asked:
                raise ValueError(f"monitor_wait_s cannot be combined with {' and '.join(asked)}")
        return accumulate

    @field_validator("web")
    @classmethod
    def _lets_readings_in(cls, web: WebConfig, info: ValidationInfo) -> WebConfig:
        if web.token is None and info.data.get("accumulate", AccumulateConfig()).monitor_wait_s is not None:
            raise ValueError("accumulate.monitor_wait_s needs web.token: the readings come by POST /api/i0")
        return web

    @field_validator("stop")
    @classmethod
    def _has_something_to_stop_on(cls, stop: StopConfig | None, info: ValidationInfo) -> StopConfig | None:
        if stop is not None and info.data.get("accumulate", AccumulateConfig()).scope == "frame":
            raise ValueError('accumulate.scope = "frame" adds nothing up, so that there is nothing to decide on')
        return stop

    @property
    def control_unit(self) -> str | None:
        """Address of the detector's control unit (SIMPLON), where it is known."""
        stop = self.stop
        return self.stream.simplon or (stop.url if stop is not None and stop.via == "simplon" else None)

    @classmethod
    def from_mapping(
        cls, given: Mapping[str, object], folder: Path | None = None, source: str = "configuration"
    ) -> Self:
        """Check plain values, as `tomllib` gives them.

        Parameters
        ----------
        given
            Sections and keys.
        folder
            Where relative paths start; by default the current folder.
        source
            What the errors call it.

        Raises
        ------
        ConfigError
            With every mistake.
        """
        # Sections with required keys are always looked into, so that it is their keys that are reported missing.
        sections: dict[str, object] = {"stream": {}, "geometry": {}, **given}
        try:
            return cls.model_validate(sections, context={"folder": (folder or Path()).absolute()})
        except ValidationError as error:
            raise ConfigError(sentences(error, sections, keys_of(cls)), source) from None

    @classmethod
    def for_endpoint(cls, endpoint: str, poni: Path) -> Self:
        """Everything default but the detector's address and its calibration; raises ConfigError."""
        given = {"stream": {"endpoint": endpoint}, "geometry": {"poni": poni}}
        return cls.from_mapping(given, source="command line")
