import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "ringwatch@.service"


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("ExecStart", "/opt/ringwatch/bin/ringwatch run /etc/ringwatch/%i.toml"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("Restart", "on-failure"),
        ("SupplementaryGroups", "video render"),
        ("CacheDirectory", "ringwatch/%i"),
        ("StateDirectory", "ringwatch/%i"),
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
    ],
)
def test_the_unit_sets(key: str, value: str) -> None:
    assert settings()[key] == [value]


def test_a_wrong_configuration_is_not_started_again() -> None:
    assert "78" in settings()["RestartPreventExitStatus"][0].split()


def test_a_daemon_that_stands_still_or_does_not_stop_is_ended() -> None:
    assert all(int(settings()[key][0]) > 0 for key in ("WatchdogSec", "TimeoutStopSec"))


def test_the_user_is_left_to_a_drop_in_which_is_explained() -> None:
    assert "User" not in settings()
    assert "systemctl edit ringwatch@" in UNIT.read_text()


@pytest.mark.parametrize("key", ["PrivateDevices", "MemoryDenyWriteExecute", "ProtectClock", "PrivateUsers"])
def test_what_would_break_opencl_is_left_out_and_the_reason_given(key: str) -> None:
    assert key not in settings()
    assert f"# - {key}: " in UNIT.read_text()


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "POCL_CACHE_DIR", "CUDA_CACHE_PATH"])
def test_compiled_kernels_are_kept_in_the_cache_directory(variable: str) -> None:
    environment = dict(entry.split("=", 1) for entry in settings()["Environment"])
    assert environment[variable].startswith("%C/" + settings()["CacheDirectory"][0])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    # The program must exist, and here it is not installed under /opt.
    unit.write_text(UNIT.read_text().replace("=/opt/ringwatch/bin/ringwatch", f"={sys.executable}"))
    command = ["systemd-analyze", "verify", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    complaints = [line for line in result.stderr.splitlines() if "ringwatch" in line]
    assert (result.returncode, complaints) == (0, [])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_exposure_that_the_documentation_names_is_not_exceeded() -> None:
    documented = re.search(r"exposure level .*?(\d+\.\d)", (ROOT / "docs" / "operations.md").read_text())
    assert documented is not None
    command = ["systemd-analyze", "security", "--offline=yes", str(UNIT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"Overall exposure level .*: (\d+\.\d)", result.stdout)
    if found is None:
        pytest.skip(f"this systemd-analyze cannot look at a file: {result.stderr[:100]}")
    assert float(found[1]) <= float(documented[1])
