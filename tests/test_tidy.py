"""The tree's own rules, read from the tree itself. Standard library and git only."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
FUNCTION_LINES_MAX: Final = 70
FILE_LINES_MAX: Final = 450
"""400 is the aim; past this a file wants a second room."""

TOP_LEVEL: Final = {
    "LICENSE",
    "README.md",
    "deploy",
    "docker-compose.yml",
    "hasyncd",
    "proto",
    "pyproject.toml",
    "tests",
}

CORE_IMPORTS: Final = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "hmac",
    "itertools",
    "msgpack",
    "operator",
    "re",
    "struct",
    "typing",
}
"""Data in, data out: nothing here has a clock, a socket or chance in it."""


def tracked() -> list[Path]:
    # CI may run as another user than the one who cloned.
    command = [
        "git",
        "-c",
        f"safe.directory={ROOT}",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return sorted(Path(name) for name in set(listing.split("\0")) if name and (ROOT / name).exists())


FILES: Final = tracked()


def files(*tops: str, suffixes: tuple[str, ...]) -> Iterator[Path]:
    return (file for file in FILES if file.parts[0] in tops and file.suffix in suffixes)


def lines(file: Path) -> list[str]:
    return (ROOT / file).read_text().splitlines()


def python_files() -> Iterator[Path]:
    return files("hasyncd", "tests", suffixes=(".py",))


def test_the_top_level_is_fixed() -> None:
    assert {file.parts[0] for file in FILES if not file.parts[0].startswith(".")} <= TOP_LEVEL


def test_each_folder_says_what_lives_in_it() -> None:
    folders = {file.parent for file in FILES if file.parts[0] in ("hasyncd", "proto", "deploy", "tests")}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "README.md").exists()] == []


def test_files_are_short_enough_to_find_the_way() -> None:
    sources = files("hasyncd", "tests", suffixes=(".py", ".c", ".h"))
    assert {str(file): n for file in sources if (n := len(lines(file))) > FILE_LINES_MAX} == {}


def test_functions_are_short_enough_to_read() -> None:
    long = {}
    for file in python_files():
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    long[f"{file}:{node.lineno} {node.name}"] = length
    for file in files("hasyncd", suffixes=(".c",)):
        long.update({k: n for k, n in c_functions(file).items() if n > FUNCTION_LINES_MAX})
    assert long == {}


def c_functions(file: Path) -> dict[str, int]:
    """Length of every function: from its last line at the margin to the brace that closes it there."""
    lengths, began = {}, 0
    for number, line in enumerate(lines(file), 1):
        if line and line[0] not in " \t{}#":
            began = number
        elif line == "}" and began:
            lengths[f"{file}:{began}"] = number - began + 1
    return lengths


def test_nothing_is_left_unfinished_or_skipped() -> None:
    # Put together here, so that this file does not find itself.
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|pytest\.(skip|xfail)|mark\.(skip|xfail)")
    found = [
        f"{file}:{number}: {line.strip()}"
        for file in files(
            "hasyncd", "tests", "deploy", "proto", suffixes=(".py", ".pyi", ".c", ".h", ".sh", ".md", "")
        )
        if file != Path("tests/test_tidy.py")
        for number, line in enumerate(lines(file), 1)
        if marks.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("file", [f for f in python_files() if f.parts[:2] == ("hasyncd", "core")], ids=str)
def test_the_core_is_pure(file: Path) -> None:
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        assert not isinstance(node, (ast.AsyncFunctionDef, ast.Await)), f"{file}:{node.lineno}: waits"
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            names = [node.module or ""]
        for name in names:
            pure = name.split(".")[0] in CORE_IMPORTS or name.startswith("hasyncd.core")
            assert pure, f"{file}: imports {name}"


LAYERS: Final = {
    # folder: what its #include lines may not name
    "core": r"Python\.h|sys/socket\.h|net/|netinet/|netpacket/|linux/if|unistd\.h|time\.h|\bio/|\bbinding/",
    "io": r"Python\.h|\bbinding/",
}


@pytest.mark.parametrize("folder", sorted(LAYERS))
def test_native_includes_point_downwards_only(folder: str) -> None:
    forbidden = re.compile(LAYERS[folder])
    found = [
        f"{file}: {line}"
        for file in files("hasyncd", suffixes=(".c", ".h"))
        if file.parts[1:3] == ("native", folder)
        for line in lines(file)
        if line.lstrip().startswith("#include") and forbidden.search(line)
    ]
    assert found == []


def test_the_extension_is_built_from_every_source() -> None:
    listed = set(re.findall(r'"(hasyncd/native/[\w/]+\.c)"', (ROOT / "pyproject.toml").read_text()))
    there = {str(file) for file in files("hasyncd", suffixes=(".c",)) if file.parts[1] == "native"}
    assert listed == {
        file
        for file in there
        if file != "hasyncd/native/demo.c" and not file.startswith("hasyncd/native/tc/")
    }, "the demo is a program of its own, and native/tc is built where clang is"


def test_scripts_that_people_start_are_executable() -> None:
    for script in ("deploy/drill", "tests/run", ".ci/run"):
        assert (ROOT / script).stat().st_mode & 0o111 == 0o111, script
