"""Devices are found without the user's help, chosen in a fixed order, and their absence is explained."""

import ast
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyopencl as cl
import pytest

from ringwatch_gpu import devices, errors, loader, programs

PRINT_DEVICES = "for info in devices.list_devices(): print(info)"


def in_new_process(code: str, **variables: str) -> str:
    """Run ``code`` where nobody has asked for OpenCL platforms yet, with these variables set."""
    command = [sys.executable, "-c", f"from ringwatch_gpu import devices, loader\n{code}"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def fake(
    platform: str, kind: devices.Kind, *, name: str = "chip", shares: bool = False, fault: str = ""
) -> devices.DeviceInfo:
    info = devices.DeviceInfo(platform, name, kind, "1.0", 8, 10**9, SimpleNamespace(host_unified_memory=shares))
    info.__dict__["why_not"] = fault
    return info


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A function that replaces this machine's devices."""

    def having(*infos: devices.DeviceInfo) -> None:
        ordered = tuple(sorted(infos, key=devices._rank))
        monkeypatch.setattr(devices, "list_devices", lambda: ordered)

    return having


INTEL = fake("Intel(R) OpenCL", "cpu", name="EPYC")
POCL = fake("Portable Computing Language", "cpu", name="cpu-EPYC")
NVIDIA = fake("NVIDIA CUDA", "gpu", name="NVIDIA H200")
INTEGRATED = fake("Intel(R) OpenCL Graphics", "gpu", name="Iris", shares=True)
EMULATOR = fake("An emulator", "other")


def test_gpus_come_first_then_pocl_then_intels_cpu_runtime(machine):
    machine(EMULATOR, POCL, INTEL, INTEGRATED, NVIDIA)
    assert devices.list_devices() == (NVIDIA, INTEGRATED, POCL, INTEL, EMULATOR)
    assert devices.choose() is NVIDIA.device


def test_the_order_does_not_depend_on_the_loaders(machine):
    machine(INTEL, POCL)
    assert devices.choose() is POCL.device
    machine(POCL, INTEL)
    assert devices.choose() is POCL.device


@pytest.mark.parametrize(("part", "expected"), [("portable", POCL), ("INTEL(R) opencl", INTEGRATED), ("epyc", POCL)])
def test_a_part_of_the_platforms_or_the_devices_name_chooses(machine, part, expected):
    machine(POCL, INTEL, INTEGRATED, NVIDIA)
    assert devices.choose(platform=part) is expected.device


def test_a_kind_chooses(machine):
    machine(POCL, NVIDIA)
    assert devices.choose(kind="cpu") is POCL.device


def test_an_unusable_device_is_passed_over_and_its_fault_is_said(machine):
    broken = replace(NVIDIA, name="old")
    broken.__dict__["why_not"] = "it has no compiler"
    machine(broken, POCL)
    assert devices.choose() is POCL.device
    assert "not usable: it has no compiler" in devices.describe()
    with pytest.raises(errors.NoDevice, match=r"no usable OpenCL device of kind gpu:\n  old.*: it has no compiler"):
        devices.choose(kind="gpu")


def test_a_name_that_fits_nothing_is_answered_with_what_is_there(machine):
    machine(POCL)
    with pytest.raises(errors.NoDevice) as caught:
        devices.choose(platform="nvidia")
    assert caught.value.reason == "no OpenCL device named 'nvidia'; found: cpu-EPYC (Portable Computing Language)"
    assert "pocl-opencl-icd" in caught.value.advice


def test_the_description_says_which_device_is_used_and_why(machine):
    machine(POCL, NVIDIA)
    assert "* GPU   NVIDIA H200" in devices.describe()
    assert devices.describe().endswith("NVIDIA H200 (NVIDIA CUDA), because a GPU comes first.")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"endian_little": False}, "it is big endian"),
        ({"compiler_available": False}, "it has no compiler"),
        ({"profile": "EMBEDDED_PROFILE"}, "it has no 64-bit integers"),
        ({"double_fp_config": 0}, "it has no 64-bit floating point"),
        ({"extensions": "cl_khr_fp64"}, "it has no 64-bit atomics (cl_khr_int64_base_atomics)"),
        ({"available": False}, "it is not available"),
        ({}, ""),
    ],
)
def test_what_a_device_says_it_cannot_do_makes_it_unusable(fault, sentence):
    able = {"available": True, "endian_little": True, "compiler_available": True, "double_fp_config": 1}
    gpu = able | {"profile": "FULL_PROFILE", "extensions": "cl_khr_fp64 cl_khr_int64_base_atomics"}
    assert devices._missing_ability(SimpleNamespace(**(gpu | fault)), "gpu") == sentence


PROBE = "kernel void probe(global ulong *sum, const ulong factor) {{ sum[0] = {}; }}"


@pytest.mark.parametrize(
    ("formula", "sentence"),
    [
        ("factor * factor", ""),
        ("(uint)(factor * factor)", "it computes a wrong number"),
        ("no_such_thing", "its compiler fails: .*no_such_thing.*"),
    ],
)
def test_a_device_that_fails_a_tiny_kernel_is_unusable(
    device: cl.Device, monkeypatch, tmp_path: Path, formula, sentence
):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "devices.cl").write_text(PROBE.format(formula))
    monkeypatch.setattr(programs, "files", lambda package: tmp_path)
    assert re.fullmatch(sentence, devices._probe_failure(device, "cpu"))


def test_a_queue_works_on_every_device(queue: cl.CommandQueue, device: cl.Device):
    assert queue.device == device


@pytest.fixture
def fake_runtimes(monkeypatch, tmp_path: Path) -> Path:
    """A folder that stands for the machine: ``vendors`` for the .icd files, ``lib`` for what pip installed."""
    (tmp_path / "vendors").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libintelocl.so").touch()
    monkeypatch.setattr(loader, "_VENDOR_FOLDERS", (tmp_path / "vendors", tmp_path / "absent"))
    monkeypatch.setattr(loader, "_NVIDIA_FOLDERS", (tmp_path / "nvidia",))
    monkeypatch.setattr(loader, "_NVIDIA_CONTAINER", tmp_path / "nvidia")
    monkeypatch.setattr(loader.sysconfig, "get_path", lambda name: {"data": str(tmp_path)}[name])
    monkeypatch.setattr(loader.site, "ENABLE_USER_SITE", False)
    for name in loader.USER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def listed() -> list[str]:
    """The libraries that the loader is told of."""
    with loader._every_runtime_listed():
        folder = os.environ.get("OCL_ICD_VENDORS")
        return [file.read_text().strip() for file in sorted(Path(folder).glob("*.icd"))] if folder else []


def test_the_loader_is_told_of_the_systems_runtimes_and_of_those_without_icd_file(fake_runtimes: Path):
    (fake_runtimes / "vendors" / "pocl.icd").write_text("libpocl.so.2\n")
    (fake_runtimes / "nvidia").mkdir()
    (fake_runtimes / "nvidia" / "libnvidia-opencl.so.1").touch()
    found = [str(fake_runtimes / "lib/libintelocl.so"), str(fake_runtimes / "nvidia/libnvidia-opencl.so.1")]
    assert listed() == ["libpocl.so.2", *found]


def test_a_path_that_exists_replaces_a_bare_name_but_not_another_path(fake_runtimes: Path):
    elsewhere = fake_runtimes / "oneapi" / "libintelocl.so"
    elsewhere.parent.mkdir()
    elsewhere.touch()
    (fake_runtimes / "vendors" / "intel.icd").write_text("libintelocl.so")
    assert listed() == [str(fake_runtimes / "lib/libintelocl.so")]
    (fake_runtimes / "vendors" / "intel.icd").write_text(str(elsewhere))
    assert listed() == [], "the loader finds what the system names without help"


def test_an_icd_file_that_points_nowhere_is_left_out(fake_runtimes: Path):
    (fake_runtimes / "vendors" / "gone.icd").write_text("/no/such/library.so")
    assert listed() == [str(fake_runtimes / "lib/libintelocl.so")]


@pytest.mark.parametrize("variable", loader.USER_VARIABLES)
def test_what_the_user_has_set_is_left_alone(fake_runtimes: Path, monkeypatch, variable):
    monkeypatch.setenv(variable, "/his/own")
    with loader._every_runtime_listed():
        assert {name: os.environ.get(name) for name in loader.USER_VARIABLES} == dict.fromkeys(
            loader.USER_VARIABLES
        ) | {variable: "/his/own"}


def test_neither_variable_nor_folder_is_left_behind(fake_runtimes: Path):
    folders = []

    def fail() -> None:
        with loader._every_runtime_listed():
            folders.append(Path(os.environ["OCL_ICD_VENDORS"]))
            assert folders[0].is_dir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "OCL_ICD_VENDORS" not in os.environ
    assert not folders[0].exists()


def test_every_device_of_this_process_is_found_in_a_new_one_too():
    """In particular the CPU runtime that pip installed, which no .icd file names."""
    printed = in_new_process(PRINT_DEVICES)
    assert printed.splitlines() == [str(info) for info in devices.list_devices()]


def test_reading_a_geometry_first_hides_no_device(tmp_path: Path):
    """pyFAI asks for the platforms too, without the runtimes that only we find."""
    poni = tmp_path / "small.poni"
    poni.write_text("Detector: Pilatus100k\nDistance: 0.1\nPoni1: 0\nPoni2: 0\nRot1: 0\nRot2: 0\nRot3: 0\n")
    code = f"from ringwatch_gpu import Geometry\nGeometry.from_poni('{poni}')\n{PRINT_DEVICES}"
    printed = in_new_process(code, XDG_CACHE_HOME=str(tmp_path))
    assert printed.splitlines() == [str(info) for info in devices.list_devices()]


def test_without_a_runtime_the_error_says_how_to_get_one(tmp_path: Path):
    code = "try: devices.choose()\nexcept devices.NoDevice as error: print(error)\nprint(devices.describe())"
    printed = in_new_process(code, OCL_ICD_VENDORS=str(tmp_path))
    assert printed.startswith("no OpenCL device; found: none\nTo get an OpenCL device:")
    assert "No OpenCL device was found.\n\nTo get an OpenCL device:" in printed
    assert "NVIDIA_DRIVER_CAPABILITIES" in printed
    assert "apt-get install pocl-opencl-icd" in printed


needs_installed_runtime = pytest.mark.skipif(
    bool(loader.user_choice()) or not loader._installed_runtimes(), reason="no runtime that only ringwatch finds"
)


@needs_installed_runtime
def test_a_variable_of_the_users_that_hides_a_runtime_is_named(tmp_path: Path):
    printed = in_new_process("print(devices.advice())", OCL_ICD_VENDORS=str(tmp_path))
    assert f"was not asked, because OCL_ICD_VENDORS={tmp_path} is set" in printed


@needs_installed_runtime
def test_a_loader_that_somebody_else_started_is_named():
    hasty = "import pyopencl as cl\ntry: cl.get_platforms()\nexcept cl.LogicError: pass\n"
    assert "came too late" in in_new_process(hasty + "print(devices.advice())")


needs_pocl = pytest.mark.skipif(
    not any("Portable" in info.platform for info in devices.list_devices())
    or os.cpu_count() < 2
    or os.sched_getaffinity(0) != set(range(os.cpu_count())),
    reason="no PoCL, or not several CPUs that these tests may use",
)
CPUS_OF_THREADS = """
import os
os.sched_setaffinity(0, {cpus})
before = set(os.listdir("/proc/self/task"))
devices.choose("Portable")
print([sorted(os.sched_getaffinity(int(task))) for task in set(os.listdir("/proc/self/task")) - before])
print(os.environ.get(loader.AFFINITY))
"""


def cpus_of_threads(cpus: set[int], **variables: str) -> tuple[list[list[int]], str]:
    """Where the threads that PoCL starts may run in a process that may use ``cpus``, and the variable afterwards."""
    threads, variable = in_new_process(CPUS_OF_THREADS.format(cpus=cpus), **variables).splitlines()
    return sorted(ast.literal_eval(threads)), variable


@needs_pocl
def test_each_of_pocls_threads_has_its_own_cpu():
    every = range(os.cpu_count())
    threads, variable = cpus_of_threads(set(every))
    assert all([cpu] in threads for cpu in every)
    assert variable == "None"


@needs_pocl
def test_pocls_threads_stay_within_the_cpus_that_the_process_may_use():
    last = os.cpu_count() - 1
    threads, _ = cpus_of_threads({last})
    assert threads
    assert all(thread == [last] for thread in threads)


@needs_pocl
def test_the_users_choice_for_pocls_threads_counts():
    every = list(range(os.cpu_count()))
    threads, variable = cpus_of_threads(set(every), POCL_AFFINITY="0")
    assert threads
    assert all(thread == every for thread in threads)
    assert variable == "0"
