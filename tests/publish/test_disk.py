import errno
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

from ringwatch.publish.disk import put_in_place


class Killed(BaseException):
    """What no code can handle."""


def killed(*_: object, **__: object) -> NoReturn:
    raise Killed


@pytest.fixture
def part(tmp_path: Path) -> Path:
    written = tmp_path / "result.h5.part"
    written.write_bytes(b"complete")
    return written


@pytest.mark.parametrize("call", ["hardlink_to", "unlink", "touch", "replace"])
def test_a_file_has_its_name_only_when_it_is_complete(part: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Whenever the daemon is killed."""
    path = part.with_suffix("")
    with monkeypatch.context() as patched:
        patched.setattr(Path, call, killed)
        with suppress(Killed):
            put_in_place(part, path)
    assert not path.exists() or path.read_bytes() == b"complete"


def test_the_part_is_gone_and_the_file_is_there(part: Path) -> None:
    path = part.with_suffix("")
    put_in_place(part, path)
    assert path.read_bytes() == b"complete"
    assert not part.exists()


@pytest.mark.parametrize("has_links", [True, False])
def test_nothing_is_overwritten(part: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    path = part.with_suffix("")
    path.write_bytes(b"of somebody else")
    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", without_links)
    with pytest.raises(FileExistsError):
        put_in_place(part, path)
    assert path.read_bytes() == b"of somebody else"


def test_where_there_are_no_links_it_is_renamed(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = part.with_suffix("")
    monkeypatch.setattr(Path, "hardlink_to", without_links)
    put_in_place(part, path)
    assert path.read_bytes() == b"complete"
    assert not part.exists()


def without_links(*_: object) -> NoReturn:
    raise OSError(errno.EPERM, "Operation not permitted")
