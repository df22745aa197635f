"""Builds what of the tc engine can be built here: the BPF object by clang, the loader where libbpf is.

What is missing is said, and hasyncd runs without it (`engine = "packet"`). setuptools reads this file by its
path: it may import nothing of ours.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, Final

from setuptools import Extension
from setuptools.command.build_ext import build_ext

HERE: Final = Path("hasyncd/native/tc")
OBJECT: Final = Path("hasyncd/datapath/flow_cache.bpf.o")
_CLANGS: Final = ("clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14")


def find_clang() -> str | None:
    return next((path for name in _CLANGS if (path := shutil.which(name))), None)


def compile_object(clang: str, target: Path) -> None:
    """Raises subprocess.CalledProcessError: no BPF back end, or no headers of libbpf."""
    machine = sysconfig.get_config_var("MULTIARCH") or ""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [
        clang, "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-ffreestanding", "-Wall", "-Wextra",
        "-I", str(HERE.parent), "-idirafter", f"/usr/include/{machine}",
        "-c", str(HERE / "flow_cache.bpf.c"), "-o", str(target),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)


def has_libbpf(compiler: str) -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "probe.c"
        source.write_text("#include <bpf/libbpf.h>\nint main(void) { return libbpf_num_possible_cpus(); }\n")
        command = [*compiler.split(), str(source), "-o", str(Path(scratch) / "probe"), "-lbpf"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


class BuildNative(build_ext):  # type: ignore[misc]
    """build_ext, with the tc engine where its tools are."""

    def finalize_options(self) -> None:
        missing = self._missing()
        if missing:
            self.announce(f"hasyncd: built without the tc engine: {missing}", 4)
        else:
            loader: Any = Extension(
                "hasyncd._tc",
                [str(HERE / "loader.c")],
                libraries=["bpf"],
                py_limited_api=True,
                extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden",
                                    "-DPy_LIMITED_API=0x030B0000", "-D_GNU_SOURCE"],
            )  # fmt: skip
            modules = self.distribution.ext_modules
            if not any(module.name == loader.name for module in modules):
                modules.append(loader)
        super().finalize_options()

    def _missing(self) -> str | None:
        """Builds the object beside its source; why the tc engine cannot be built here."""
        clang = find_clang()
        if clang is None:
            return "there is no clang"
        if not has_libbpf(sysconfig.get_config_var("CC") or "cc"):
            return "libbpf's headers are not installed (libbpf-dev)"
        try:
            compile_object(clang, OBJECT)
        except subprocess.CalledProcessError as error:
            return f"{clang} cannot build the BPF program: {error.stderr.strip().splitlines()[0]}"
        return None

    def run(self) -> None:
        super().run()
        if not self.inplace and not self.editable_mode and OBJECT.exists():
            self.copy_file(str(OBJECT), str(Path(self.build_lib) / OBJECT))
