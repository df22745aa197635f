"""Network namespaces: made, entered, emptied and removed. Needs root.

A lab's namespaces are called `hs-<pid>-lab-<name>`, so that what a killed run left behind can be told
from everything else on the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_NETNS_DIR = Path("/run/netns")
_LAB_NAME = re.compile(r"hs-\d+-lab-[a-z0-9-]+")
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab could not be built or run; the message is for the user."""


def run_ip(commands: Iterable[str], namespace: str | None = None) -> None:
    """Runs many `ip` commands in one process. Raises LabError with what `ip` said."""
    arguments = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    try:
        done = subprocess.run(
            arguments,
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # out of the reach of ctrl-C: the lab is built or removed whole
        )
    except FileNotFoundError as error:
        raise LabError("the lab needs the `ip` command (Debian package iproute2)") from error
    if done.returncode != 0:
        raise LabError(f"ip failed: {done.stderr.strip()}")


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread works in `namespace` for the length of the block."""
    with open("/proc/thread-self/ns/net") as home, open(_NETNS_DIR / namespace) as target:
        _set_namespace(target.fileno())
        try:
            yield
        finally:
            _set_namespace(home.fileno())


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise LabError(f"setns failed: {os.strerror(error)}; the lab needs root")


def write_sysctls(namespace: str, settings: Mapping[str, str | int]) -> None:
    """Writes sysctls (`net/ipv4/ip_forward` -> 0) inside a namespace; a name this kernel lacks is passed over."""
    with inside(namespace):
        for name, value in settings.items():
            with contextlib.suppress(FileNotFoundError):
                Path("/proc/sys", name).write_text(f"{value}\n")


def spawn(
    namespace: str,
    command: list[str],
    *,
    log: Path,
    pipes: bool = False,
    outlives: bool = False,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts `command` inside a namespace; its messages go to `log`.

    The child is a session of its own, so that ctrl-C reaches only the lab, which ends its children in order.
    Unless it `outlives` the lab, the kernel kills it should the lab itself be killed.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    package_root = str(Path(__file__).resolve().parents[2])
    search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    with open(log, "ab") as messages:
        return subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command],
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else messages,
            stderr=messages,
            env={**os.environ, **(environment or {}), "PYTHONPATH": search_path},
            start_new_session=True,
            preexec_fn=None if outlives else die_with_parent,
        )


def lab_namespaces() -> list[str]:
    """Every namespace on this machine that some lab made."""
    try:
        return sorted(name for name in os.listdir(_NETNS_DIR) if _LAB_NAME.fullmatch(name))
    except FileNotFoundError:
        return []


def remove(namespaces: Iterable[str]) -> None:
    """Kills whatever still runs in the namespaces and removes them. Never raises: it is the way out."""
    present = [name for name in namespaces if (_NETNS_DIR / name).exists()]
    if not present:
        return
    deadline = time.monotonic() + 5
    while (processes := _processes_in(present)) and time.monotonic() < deadline:
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    subprocess.run(
        ["ip", "-force", "-batch", "-"],
        input="".join(f"netns del {name}\n" for name in present),
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


def _processes_in(namespaces: list[str]) -> list[int]:
    inodes = set()
    for name in namespaces:
        with contextlib.suppress(FileNotFoundError):
            inodes.add(os.stat(_NETNS_DIR / name).st_ino)
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/net").st_ino in inodes and not _is_zombie(entry):
                    found.append(int(entry))
    return found


def _is_zombie(pid: str) -> bool:
    return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
