"""No input becomes code: nothing in the program or its scripts unpickles, evaluates, or asks a shell."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "hasyncd").rglob("*.py"), *(ROOT / "deploy").rglob("*.py")])
MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "yaml", "code", "codeop"}
NAMES = {"eval", "exec", "os.system", "os.popen", "tempfile.mktemp", "asyncio.create_subprocess_shell"}
"""`compile` stays allowed: `re.compile` is what it is used for."""


def dangers(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(node.module or "")
        elif isinstance(node, ast.Call):
            if (name := ast.unparse(node.func)) in NAMES:
                found.append(name)
            found += [
                f"{name}(shell=…)"
                for word in node.keywords
                if word.arg == "shell"
                and not (isinstance(word.value, ast.Constant) and word.value.value is False)
            ]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_input_can_become_code(file: Path) -> None:
    assert dangers(file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "eval(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=asked)",
    ],
)
def test_each_danger_is_seen(source: str) -> None:
    assert dangers(source)
