"""Values that are more than text: addresses, files, folders, bytes of memory. Each is checked on this machine."""

import os
import re
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo

from ringwatch.private_files import require_private

MAX_PORT = 65535
MIN_MEMORY_BYTES = 1 << 24
DEFAULT_MEMORY_BYTES = 4 << 30

_ALL_NETWORKS = "0.0.0.0"  # noqa: S104 - refused, not bound # nosec B104
_IPC = r"ipc://\S{1,107}"  # the system's limit of a local socket's name
_TCP = r"tcp://(?P<host>[\w.-]+|\*):(?P<port>\d{1,5})"
_ENDPOINT = re.compile(rf"{_TCP}|{_IPC}", re.ASCII)
_HOST_PORT = re.compile(r"(?P<host>[\w.-]+):(?P<port>\d{1,5})", re.ASCII)

_URL = re.compile(r"https?://[^\s@#]{1,2000}", re.ASCII)
_TOKEN = re.compile(r"[!-~]{16,200}")

_CALIBRANT_NAME = re.compile(r"\w{1,64}", re.ASCII)
_FILE_NAME = re.compile(r"([^{}/\0]|\{sample\})*\{series(:0[1-9]d)?\}([^{}/\0]|\{sample\}|\{series(:0[1-9]d)?\})*")


def _connectable(endpoint: str) -> str:
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None:
        raise ValueError("should be tcp://HOST:PORT, as in tcp://10.1.2.3:9999, or ipc://PATH")
    if match["host"] in {"*", _ALL_NETWORKS}:
        raise ValueError("names no machine: write the detector's host name or address between tcp:// and the port")
    if match["port"] and not 1 <= int(match["port"]) <= MAX_PORT:
        raise ValueError(f"the port should be from 1 to {MAX_PORT}; DECTRIS detectors send from 9999 or 31001")
    return endpoint


def _bindable(endpoint: str) -> str:
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None:
        raise ValueError("should be tcp://HOST:PORT, as in tcp://127.0.0.1:5560 or tcp://*:5560, or ipc://PATH")
    _check_own_port(match["port"] or "0")
    return endpoint


def _host_and_port(address: str) -> str:
    match = _HOST_PORT.fullmatch(address)
    if match is None:
        raise ValueError("should be HOST:PORT without http://, as in 127.0.0.1:8080, or 0.0.0.0:8080 for all networks")
    _check_own_port(match["port"])
    return address


def _check_own_port(port: str) -> None:
    if int(port) > MAX_PORT:
        raise ValueError(f"the port should be from 0 (any free one) to {MAX_PORT}")


def _http_url(text: str) -> str:
    problem = "should be http://HOST, http://HOST:PORT/PATH or the same with https, without a password"
    if not _URL.fullmatch(text):
        raise ValueError(problem)
    try:
        parts = urlsplit(text)
        is_complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(problem) from None
    if not is_complete:
        raise ValueError(problem)
    return text


def _token(secret: SecretStr) -> SecretStr:
    if not _TOKEN.fullmatch(secret.get_secret_value()):
        raise ValueError("should be 16 to 200 letters, digits or signs without spaces: openssl rand -hex 16 prints one")
    return secret


def _ipv4_interface(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise ValueError("should be an address of this machine, as 127.0.0.1, or 0.0.0.0 for all networks") from None


def _absolute(path: Path, info: ValidationInfo) -> Path:
    folder: Path = info.context["folder"] if info.context else Path.cwd()
    return folder / path


def _readable_file(path: Path, info: ValidationInfo) -> Path:
    absolute = _absolute(path, info)
    if not os.path.isfile(absolute):  # noqa: PTH113 - never raises, unlike Path.is_file
        raise ValueError(f"no such file: {absolute}")
    if not os.access(absolute, os.R_OK):
        raise ValueError(f"user id {os.geteuid()} may not read {absolute}")
    return absolute


def _secret_file(path: Path, info: ValidationInfo) -> Path:
    absolute = _readable_file(path, info)
    require_private(absolute)
    return absolute


def _readable_folder(path: Path, info: ValidationInfo) -> Path:
    absolute = _absolute(path, info)
    if not (os.path.isdir(absolute) and os.access(absolute, os.R_OK | os.X_OK)):  # noqa: PTH112 - never raises
        raise ValueError(f"no such folder, or user id {os.geteuid()} may not read it: {absolute}")
    return absolute


def _image_source(text: str, info: ValidationInfo) -> str:
    file, separator, dataset = text.partition("::")
    return f"{_readable_file(Path(file), info)}{separator}{dataset}"


def _file_pattern(text: str, info: ValidationInfo) -> str:
    if not any(sign in text for sign in "*?["):
        raise ValueError("names one file: write * where the names differ, as in /data/**/scan*/eiger_*.h5")
    return str(_absolute(Path(text), info))


def _calibrant(text: str, info: ValidationInfo) -> str:
    # Whether pyFAI knows the name is told where pyFAI is loaded.
    return text if _CALIBRANT_NAME.fullmatch(text) else str(_readable_file(Path(text), info))


def _writable_folder(path: Path, info: ValidationInfo) -> Path:
    absolute = _absolute(path, info)
    if not os.path.isdir(absolute):  # noqa: PTH112 - never raises, unlike Path.is_dir
        raise ValueError(f"no such folder: {absolute}; make it, or name another one")
    if not os.access(absolute, os.W_OK | os.X_OK):
        raise ValueError(
            f"user id {os.geteuid()} may not write into {absolute}; "
            f"in a systemd service also add ReadWritePaths={absolute} to its drop-in"
        )
    return absolute


def _file_name(template: str) -> str:
    if not _FILE_NAME.fullmatch(template):
        raise ValueError(
            "should be a name without / that contains {series} or {series:06d}, as in {sample}_{series:06d}: "
            "without the number of the series, one file would take the place of another"
        )
    return template


def _ram_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _fits_into_ram(size_bytes: int) -> int:
    if size_bytes > (ram_bytes := _ram_bytes()):
        raise ValueError(f"more than this machine's {ram_bytes} bytes of memory")
    return size_bytes


def default_memory_bytes() -> int:
    """4 GiB, or a quarter of the machine's memory where that is less."""
    return max(MIN_MEMORY_BYTES, min(DEFAULT_MEMORY_BYTES, _ram_bytes() // 4))


Connectable = Annotated[str, AfterValidator(_connectable), Field(examples=["tcp://10.1.2.3:9999"])]
"""ZeroMQ endpoint of somebody else."""

FilePattern = Annotated[str, Field(min_length=2, max_length=1000), AfterValidator(_file_pattern)]
"""Names of files with wildcards, relative to the configuration's folder; ``::/path`` of a dataset may follow."""

Bindable = Annotated[str, AfterValidator(_bindable), Field(examples=["tcp://127.0.0.1:5560"])]
"""ZeroMQ endpoint of our own; port 0 is any free one."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def is_local(address: str) -> bool:
    """Whether an address that something is bound to can be reached from this machine only."""
    if address.startswith("ipc://"):
        return True
    return address.removeprefix("tcp://").rpartition(":")[0].strip("[]").lower() in LOOPBACK


HostPort = Annotated[str, AfterValidator(_host_and_port), Field(examples=["127.0.0.1:8080"])]
"""Address of our own for HTTP; port 0 is any free one."""

HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""Address of somebody else for HTTP."""

IPv4Interface = Annotated[str, AfterValidator(_ipv4_interface)]
"""Address of our own."""

Token = Annotated[SecretStr, AfterValidator(_token)]
"""A secret that never shows where the configuration is printed."""

ReadableFile = Annotated[Path, AfterValidator(_readable_file), Field(strict=False)]
"""Existing file, made absolute."""

SecretFile = Annotated[Path, AfterValidator(_secret_file), Field(strict=False)]
"""Existing file that nobody else may read, made absolute."""

ReadableFolder = Annotated[Path, AfterValidator(_readable_folder), Field(strict=False)]
"""Existing folder, made absolute."""

ImageSource = Annotated[str, AfterValidator(_image_source)]
"""Existing file, made absolute, with ``::/path`` to a dataset where it is an HDF5 file."""

Calibrant = Annotated[str, AfterValidator(_calibrant)]
"""Name of a calibrant, or an existing file, made absolute."""

WritableFolder = Annotated[Path, AfterValidator(_writable_folder), Field(strict=False)]
"""Existing folder, made absolute."""

FileName = Annotated[str, Field(max_length=120), AfterValidator(_file_name)]
"""Template of a file name, for ``str.format`` with ``sample`` and ``series``."""

MemoryBytes = Annotated[int, Field(ge=MIN_MEMORY_BYTES, examples=[4 << 30]), AfterValidator(_fits_into_ram)]
"""An amount of this machine's memory."""
