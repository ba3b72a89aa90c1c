"""The command line. Each command is a few lines: arguments in, one call of the service, exit code out."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import click
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ringwatch import __version__
from ringwatch.config import Config, FilesConfig, load
from ringwatch.errors import ConfigError, RingwatchError
from ringwatch.messages import ProfileKind
from ringwatch.stream.faults import FAULTS, Fault

EXIT_FAILED, EXIT_CONFIG = 1, 78
DEFAULT_RESULTS = "tcp://127.0.0.1:5560"

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
PORT = click.IntRange(0, 65535)
Protocol = Literal["v1", "v2"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Live reduction of powder-diffraction frames, and how spotty the rings still are."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@contextmanager
def exit_codes() -> Iterator[None]:
    """Errors become one message on stderr and the promised exit code."""
    from ringwatch_gpu.errors import DeviceError, DigestMismatch, GeometryError  # noqa: PLC0415 - after the loader

    try:
        yield
    except (ConfigError, GeometryError) as error:
        click.echo(f"ringwatch: {error}", err=True)
        sys.exit(EXIT_CONFIG)
    except (RingwatchError, DeviceError, DigestMismatch) as error:
        click.echo(f"ringwatch: {error}", err=True)
        sys.exit(EXIT_FAILED)


def configuration(config: Path | None, poni: Path | None) -> Config | FilesConfig:
    """The configuration of the commands that work on files: CONFIG or --poni."""
    if (config is None) == (poni is None):
        raise click.UsageError("give either a CONFIG file with --config, or a PONI file with --poni")
    return load(config) if config else FilesConfig.for_poni(poni or Path())


CONFIG_OPTION = click.option("--config", type=FILE, help="Configuration file.")
PONI_OPTION = click.option("--poni", type=FILE, help="Calibration; everything else default.")


@main.command()
@click.argument("source")
@click.option("--poni", type=FILE, help="Calibration, where SOURCE is an endpoint; everything else default.")
def run(source: str, poni: Path | None) -> None:
    """Run the daemon: SOURCE is a CONFIG.toml, or the detector's endpoint with --poni FILE."""

    def read() -> Config:
        return Config.for_endpoint(source, poni) if poni else load(Path(source))

    with exit_codes():
        config = read()
        from ringwatch.service.daemon import Daemon  # noqa: PLC0415 - OpenCL and pyFAI take their time
        from ringwatch.service.life import Life  # noqa: PLC0415

        is_in_terminal = sys.stdin is not None and sys.stdin.isatty()  # which sends SIGHUP when its window is closed
        life = Life(Daemon(config), None if is_in_terminal else read)
        code = life.run()
        if life.hangs:  # the interpreter would wait for the driver
            sys.stderr.flush()
            os._exit(code)
        sys.exit(code)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
def check(config: Path) -> None:
    """Try a configuration out: every mistake, device, geometry, kernels."""
    with exit_codes():
        loaded = load(config)
        from ringwatch.service.check import check as try_out  # noqa: PLC0415 - likewise

        for line in try_out(loaded):
            click.echo(line)
        click.echo("all good")


@main.command()
def devices() -> None:
    """OpenCL devices: which there are, which one is used and why, how to get one."""
    from ringwatch_gpu import devices as found  # noqa: PLC0415 - likewise

    click.echo(found.describe())
    sys.exit(0 if any(info.usable for info in found.list_devices()) else EXIT_FAILED)


@main.command()
@click.argument("endpoint")
@click.option("--poni", type=FILE, required=True, help="Calibration of the detector.")
def init(endpoint: str, poni: Path) -> None:
    """Print a commented configuration for the detector at ENDPOINT."""
    from ringwatch.service.init import initial_config  # noqa: PLC0415 - likewise

    with exit_codes():
        click.echo(initial_config(endpoint, poni), nl=False)


def sender_options(command: Callable[..., None]) -> Callable[..., None]:
    """What `simulate` and `replay` have in common."""
    options = [
        click.option("--bind", required=True, help="Where to serve the stream, e.g. tcp://127.0.0.1:31001."),
        click.option(
            "--rate", "rate_hz", default=0.0, show_default=True, help="Frames a second; 0 = as fast as it goes."
        ),
        click.option("--frames", "n_frames", type=click.IntRange(min=1), help="Length of the series."),
        click.option("--protocol", type=click.Choice(["v1", "v2"]), default="v2", show_default=True),
        click.option("--series", default=1, show_default=True, help="Number of the series."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def sending(
    bind: str, protocol: Protocol, n_frames: int, *, stop: threading.Event | None = None, loses_end: bool = False
) -> Iterator[tuple[Any, Callable[[int, float], None]]]:
    """A sender and a progress bar; ``stop`` and Ctrl-C end the series early, its end is still sent."""
    from ringwatch.stream.sender import Sender  # noqa: PLC0415 - likewise

    stop = stop or threading.Event()
    with exit_codes(), progress_bar() as bar, Sender(bind, protocol, stop=stop, loses_end=loses_end) as sender:
        task = bar.add_task("waiting for a receiver", total=n_frames)

        def told(frames: int, late_s: float) -> None:
            text = f"sending, {late_s:.2f} s late" if late_s > 0.01 else "sending"
            bar.update(task, completed=frames, description=text if frames else "waiting for a receiver")

        try:
            yield sender, told
        except KeyboardInterrupt:
            stop.set()
            raise


def progress_bar() -> Progress:
    """A bar on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


@main.command()
@sender_options
@click.option("--preset", type=click.Choice(["tutorial", "truth"]), default="tutorial", show_default=True)
@click.option("--crystallites", type=float, help="Crystallites in the beam.")
@click.option("--grain-lifetime", type=click.FloatRange(min=1), help="Frames for which a spot stays on average.")
@click.option("--static", type=click.FloatRange(0, 1), help="Share of crystallites that never move.")
@click.option("--seed", type=int, help="Names the draw.")
@click.option("--distinct", type=click.IntRange(min=1), help="Draw so many frames before the start and repeat them.")
@click.option("--write-poni", type=NEW_FILE, help="Write the simulated geometry here first.")
@click.option("--commands", "commands_port", type=PORT, help="Take the detector's stop commands on this local port.")
@click.option("--fault", "faults", multiple=True, type=click.Choice(FAULTS), help="What goes wrong with them.")
def simulate(
    bind: str,
    rate_hz: float,
    n_frames: int | None,
    protocol: Protocol,
    series: int,
    preset: str,
    crystallites: float | None,
    grain_lifetime: float | None,
    static: float | None,
    seed: int | None,
    distinct: int | None,
    write_poni: Path | None,
    commands_port: int | None,
    faults: tuple[Fault, ...],
) -> None:
    """Serve a simulated spotty powder as a DECTRIS stream."""
    from ringwatch.service import simulation  # noqa: PLC0415 - likewise

    powder = simulation.powder(preset, crystallites, grain_lifetime, static)
    if write_poni:
        write_poni.write_text(powder.poni())
    length, stop = n_frames or simulation.DEFAULT_FRAMES, threading.Event()
    is_lost = "end-lost" in faults
    with (
        sending(bind, protocol, length, stop=stop, loses_end=is_lost) as (sender, told),
        simulation.commanded(commands_port, stop, faults),
    ):
        report = simulation.send(sender, powder, length, rate_hz, seed, series, distinct, told)
    click.echo(simulation.describe(report))


@main.command()
@click.argument("file")
@sender_options
def replay(file: str, bind: str, rate_hz: float, n_frames: int | None, protocol: Protocol, series: int) -> None:
    """Serve recorded frames as a DECTRIS stream; FILE may be file.h5::/path."""
    from ringwatch.service.simulation import describe  # noqa: PLC0415 - likewise
    from ringwatch.stream.frames_file import FramesFile  # noqa: PLC0415
    from ringwatch.stream.replay import replay as send  # noqa: PLC0415

    with exit_codes(), FramesFile(file) as frames:
        length = n_frames or frames.n_frames
    with sending(bind, protocol, length) as (sender, told):
        report = send(sender, file, length, rate_hz=rate_hz, series=series, progress=told)
    click.echo(describe(report))


@main.command()
@click.argument("endpoint", default=DEFAULT_RESULTS)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--server-key", type=FILE, help="The daemon's public key, where it publishes encrypted.")
@click.option("--key", "own_key", type=FILE, help="Your secret key, where the daemon lets only some in.")
def watch(endpoint: str, as_json: bool, server_key: Path | None, own_key: Path | None) -> None:
    """Show what a daemon publishes at ENDPOINT."""
    from ringwatch.service.watch import watch as show  # noqa: PLC0415 - likewise

    with exit_codes():
        show(endpoint, as_json, sys.stdout, server_key, own_key)


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("names", nargs=-1)
def keys(folder: Path, names: tuple[str, ...]) -> None:
    """Make a pair of keys in FOLDER for each of NAMES (by default daemon and client); no file is ever overwritten."""
    from ringwatch.curve import write_pair  # noqa: PLC0415 - likewise

    with exit_codes():
        for name in names or ("daemon", "client"):
            public, secret = write_pair(folder, name)
            click.echo(f"{secret}  secret: for {name} alone, mode 0600")
            click.echo(f"{public}  public: for those who are to recognise {name}")


@main.command()
@click.argument("files", nargs=-1, required=True)
@CONFIG_OPTION
@PONI_OPTION
@click.option("--i0", multiple=True, help="Beam monitor, one number a frame: FILE::/PATH; may be given several times.")
@click.option("-o", "--output", type=NEW_FILE, required=True, help="Result file; never overwritten.")
@click.option(
    "--each-frame",
    type=click.Choice(get_args(ProfileKind)),
    help="Store this profile of each single frame; those that leave outliers out take some 0.1 s a frame.",
)
@click.option("--xye", is_flag=True, help="Write the mean profile beside it as text, too: 2theta, intensity, error.")
@click.option("--plot", is_flag=True, help="Draw a figure beside it, too (PNG; needs 'ringwatch[plot]').")
def reduce(
    files: tuple[str, ...],
    config: Path | None,
    poni: Path | None,
    i0: tuple[str, ...],
    output: Path,
    each_frame: ProfileKind | None,
    xye: bool,
    plot: bool,
) -> None:
    """Reduce recorded FILES as the daemon would, into one result file."""
    from ringwatch.publish.exports import Export, require, write_exports  # noqa: PLC0415 - likewise
    from ringwatch.service.offline import reduce_files  # noqa: PLC0415
    from ringwatch.service.report import summary_lines  # noqa: PLC0415

    wanted: dict[Export, bool] = {"xye": xye, "png": plot}
    kinds = [kind for kind, is_wanted in wanted.items() if is_wanted]
    with exit_codes(), progress_bar() as bar:
        require(kinds)
        task = bar.add_task("reducing", total=None)
        summary = reduce_files(
            files,
            configuration(config, poni),
            output,
            lambda done, total: bar.update(task, completed=done, total=total),
            i0,
            each_frame,
        )
    for line in summary_lines(summary):
        click.echo(line)
    with exit_codes():
        for result in summary.paths:
            for path in write_exports(result, kinds):
                click.echo(f"written: {path}")


@main.command()
@click.argument("results", nargs=-1, required=True, type=FILE)
@click.option("--profile", type=click.Choice(get_args(ProfileKind)), default="mean", show_default=True)
def xye(results: tuple[Path, ...], profile: ProfileKind) -> None:
    """Write a profile of each result file beside it as text: 2theta in degrees, intensity, standard error."""
    from ringwatch.publish.exports import write_xye  # noqa: PLC0415 - likewise

    with exit_codes():
        for result in results:
            click.echo(f"written: {write_xye(result, profile)}")


@main.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("-o", "--output", type=NEW_FILE, required=True, help="Result file; never overwritten.")
def merge(files: tuple[Path, ...], output: Path) -> None:
    """Union of result FILES made with the same geometry and masks."""
    from ringwatch.service.merge import merge as unite  # noqa: PLC0415 - likewise
    from ringwatch.service.report import summary_lines  # noqa: PLC0415

    with exit_codes():
        for line in summary_lines(unite(files, output)):
            click.echo(line)


@main.command()
@click.argument("file")
@CONFIG_OPTION
@PONI_OPTION
@click.option("-n", "n_frames", type=click.IntRange(min=1), default=20, show_default=True, help="Frames to compare.")
def verify(file: str, config: Path | None, poni: Path | None, n_frames: int) -> None:
    """Compare ringwatch with pyFAI on your own frames."""
    from ringwatch.service.verify import report  # noqa: PLC0415 - likewise
    from ringwatch.service.verify import verify as compare  # noqa: PLC0415

    with exit_codes():
        comparisons = compare(file, configuration(config, poni), n_frames)
    sys.exit(0 if report(comparisons, Console()) else EXIT_FAILED)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def bench(as_json: bool) -> None:
    """Measure this machine against pyFAI on the same frames."""
    from ringwatch.service.bench import bench as measure  # noqa: PLC0415 - likewise
    from ringwatch.service.bench import show  # noqa: PLC0415

    with exit_codes():
        rows = measure()
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in rows]))
    else:
        show(rows, Console())


@main.command()
@click.option("--frames", "n_frames", type=click.IntRange(min=2), default=120, show_default=True)
@click.option("--seed", type=int, help="Names the simulated draw.")
@click.option("--page", default="127.0.0.1:8080", show_default=True, help="Where the live page is; port 0 = any.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("results"), show_default=True)
@click.option("--static", type=click.FloatRange(0, 1), help="Share of crystallites that never move.")
def demo(n_frames: int, seed: int | None, page: str, output: Path, static: float | None) -> None:
    """The whole line on this machine: a simulated detector, the daemon that stops it, the live page, a result file."""
    from ringwatch.service.demo import demo as show  # noqa: PLC0415 - likewise

    with exit_codes():
        sys.exit(show(n_frames, seed, page, output, static))


if __name__ == "__main__":
    main()
