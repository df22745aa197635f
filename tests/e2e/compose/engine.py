"""A container engine of our own: installed from Debian's packages, started on private paths, gone afterwards.

No image registry is needed: the one base image of deploy/Dockerfile is made with debootstrap and imported
under its name. It is a stand-in (Debian's own python 3.11), and it carries what the machine's pip needs to
reach its packages, so it is never to be published.

The engine touches nothing of the machine's network but the bridges that the compose file asks for: no default
bridge, no firewall rules, no ip_forward. There is one at a time, held by a lock; whoever holds the lock first
clears away what a killed predecessor left. Everything is ended by process id.

`python3 -m tests.e2e.compose.engine` keeps one running for playing with until ctrl-C.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

CACHE = Path("/var/cache/hasyncd-tests")
"""What took long to make: the base image's files and Compose. Removing it costs a minute and a half."""
WORK = Path("/var/tmp/hasyncd-compose")
"""The running engine's data, sockets and log. Removed when it ends."""
DOCKER = "/usr/bin/docker"
"""Debian's client, of the engine's own version; another one may come first on PATH."""

BASE_IMAGE = "python:3.11-slim-bookworm"
BASE_PACKAGES = "ca-certificates,python3,python3-dev,python3-pip"
LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")
PIP_CONF = "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ndisable-pip-version-check = true\n"
START_SECONDS = 60
STOP_SECONDS = 20


class EngineError(Exception):
    """The engine could not be installed, started or obeyed; holds the failing command's last words."""


def run(
    *command: str,
    timeout: float = 300,
    env: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    cwd: Path | None = None,
) -> str:
    """Runs a command to its end and returns its standard output; raises EngineError with what it said."""
    try:
        done = subprocess.run(
            command, stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=timeout, cwd=cwd,
            env={**os.environ, **(env or {})}, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise EngineError(f"{command[0]}: not installed") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{' '.join(command)}: no end after {timeout:.0f} s") from error
    if done.returncode:
        said = (done.stdout[-2000:] + done.stderr[-4000:]).decode(errors="replace")
        raise EngineError(f"{' '.join(command)}: exit {done.returncode}\n{said}")
    return done.stdout.decode()


# --- what must be on the machine ------------------------------------------------------------------------


def install() -> None:
    """Debian's engine and debootstrap, where they are missing, and Compose."""
    programs = {"docker.io": "dockerd", "debootstrap": "debootstrap", "iptables": "iptables"}
    missing = [package for package, program in programs.items() if not Path("/usr/sbin", program).exists()]
    if missing or not (CACHE / "cli-plugins").exists():
        run("apt-get", "-q", "update")
    if missing:
        options = ("-qy", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends")
        run("apt-get", *options, "install", *missing, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=600)
    if not (CACHE / "cli-plugins").exists():
        install_compose()


def debian_mirror() -> str:
    """Where this machine gets Debian's main archive from."""
    wanted = ("Created-By: Packages", "Codename: bookworm", "Component: main")
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted)
    if not listed.strip():
        raise EngineError("apt knows no source of Debian bookworm on this machine")
    return listed.split()[0]


def install_compose() -> None:
    """Compose v2, packaged from Debian 13 on; it needs nothing that Debian 12 lacks, so one file is taken."""
    part = CACHE / "compose.part"
    shutil.rmtree(part, ignore_errors=True)
    for folder in ("sources", "lists/partial", "archives/partial"):
        (part / folder).mkdir(parents=True)
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (part / "sources/trixie.list").write_text(f"deb [signed-by={keys}] {debian_mirror()} trixie main\n")
    options = [
        "-q", "-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={part}/sources",
        "-o", f"Dir::State::lists={part}/lists", "-o", f"Dir::Cache={part}", "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    run("apt-get", *options, "update")
    run("apt-get", *options, "download", "docker-compose/trixie", cwd=part)
    run("dpkg-deb", "-x", str(next(part.glob("docker-compose_*.deb"))), str(part / "files"))
    (part / "files/usr/libexec/docker/cli-plugins").rename(CACHE / "cli-plugins")
    shutil.rmtree(part)


def base_archive() -> Path:
    """The base image's files as a tar; made with debootstrap if there is none for these authorities yet."""
    authorities = sorted(LOCAL_AUTHORITIES.glob("*.crt"))
    recipe = hashlib.sha256((BASE_PACKAGES + PIP_CONF).encode())
    for authority in authorities:
        recipe.update(authority.read_bytes())
    archive = CACHE / f"base-{recipe.hexdigest()[:16]}.tar"
    if archive.exists():
        return archive
    root = CACHE / "base.part"
    shutil.rmtree(root, ignore_errors=True)
    options = ["--variant=minbase", f"--include={BASE_PACKAGES}"]
    run("/usr/sbin/debootstrap", *options, "bookworm", str(root), debian_mirror(), timeout=600)
    # What tells this root from the official image as far as deploy/Dockerfile can see.
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
    (root / "usr/bin/python").symlink_to("python3")
    for authority in authorities:
        shutil.copy(authority, root / LOCAL_AUTHORITIES.relative_to("/"))
    (root / "etc/pip.conf").write_text(PIP_CONF)
    run("chroot", str(root), "/usr/sbin/update-ca-certificates")
    left_out = ("dev/*", "proc/*", "sys/*", "usr/share/doc", "usr/share/locale", "var/cache/apt/*")
    excludes = [f"--exclude=./{path}" for path in left_out]
    partial = archive.with_suffix(".part")
    run("tar", "-C", str(root), *excludes, "-cf", str(partial), ".")
    partial.rename(archive)
    shutil.rmtree(root)
    return archive


# --- the engine -----------------------------------------------------------------------------------------


class Engine:
    """A running engine; `docker` and `compose` talk to it."""

    def __init__(self, daemon: subprocess.Popen[bytes]) -> None:
        self._daemon = daemon
        self.env = {
            "DOCKER_HOST": f"unix://{WORK}/engine.sock",
            "DOCKER_CONFIG": str(WORK / "client"),
            "DOCKER_BUILDKIT": "1",
            "BUILDKIT_PROGRESS": "plain",
        }

    def docker(self, *arguments: str, timeout: float = 120, stdin: IO[bytes] | None = None) -> str:
        return run(DOCKER, *arguments, env=self.env, timeout=timeout, stdin=stdin)

    def popen(self, *arguments: str, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        """A client that stays, with pipes to its standard input and output."""
        pipe = subprocess.PIPE
        env = {**os.environ, **self.env}
        return subprocess.Popen([DOCKER, *arguments], env=env, stdin=pipe, stdout=pipe, stderr=stderr)

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                said = (WORK / "engine.log").read_text(errors="replace")[-4000:]
                raise EngineError(f"the engine does not come up (exit {self._daemon.returncode})\n{said}")
            try:
                self.docker("version", timeout=10)
            except EngineError:
                time.sleep(0.1)
            else:
                return

    def import_base(self) -> None:
        with base_archive().open("rb") as archive:
            self.docker("import", "--change", 'CMD ["python3"]', "-", BASE_IMAGE, stdin=archive)

    def remove_everything(self) -> None:
        """Ends all containers and takes the bridges down, so that nothing but files is left of them."""
        if containers := self.docker("ps", "-aq").split():
            self.docker("rm", "-fv", *containers)
        self.docker("network", "prune", "-f")


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """An engine with the base image in it, for as long as the block lasts. Raises EngineError."""
    if os.geteuid():
        raise EngineError("root is needed to start a container engine")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        clear_leftovers()
        install()
        base_archive()
        daemon = start_daemon()
        try:
            running = Engine(daemon)
            running.wait_until_up()
            running.import_base()
            try:
                yield running
            finally:
                running.remove_everything()
        finally:
            stop_process(daemon.pid, daemon)
            clear_leftovers()


def start_daemon() -> subprocess.Popen[bytes]:
    (WORK / "client").mkdir(parents=True)
    (WORK / "client/cli-plugins").symlink_to(CACHE / "cli-plugins")
    command = [
        "/usr/sbin/dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
        f"--data-root={WORK}/data", f"--exec-root={WORK}/exec", f"--pidfile={WORK}/engine.pid",
        f"--host=unix://{WORK}/engine.sock",
    ]  # fmt: skip
    path = {"PATH": f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"}
    with (WORK / "engine.log").open("wb") as log:
        # A session of its own: ctrl-C at the tests must not reach it before the containers are gone.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, **path},
        )  # fmt: skip


def stop_process(process_id: int, child: subprocess.Popen[bytes] | None = None) -> None:
    """SIGTERM, then SIGKILL after a while; returns when it is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, number)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if child.poll() is not None if child else not is_alive(process_id):
                return
            time.sleep(0.05)


def is_alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def clear_leftovers() -> None:
    """Ends and removes what an engine on our paths left behind; only the holder of the lock may call it."""
    # An engine that still hears ends its containers itself; of one that was killed the rest is ended here.
    for program in ("dockerd", "containerd"):
        for process_id in processes_of(program):
            stop_process(process_id)
    for shim in processes_of("containerd-shim-runc-v2"):
        end_container(shim)
    remove_bridges()
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in reversed(mounted):
        if point.startswith(f"{WORK}/"):
            with contextlib.suppress(EngineError):
                run("umount", "-l", point)
    shutil.rmtree(WORK, ignore_errors=True)


def processes_of(program: str) -> list[int]:
    """Processes of this name whose arguments name our paths."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if Path(words[0]).name == program and any(f"{WORK}/" in word for word in words[1:]):
            found.append(int(entry.parent.name))
    return found


def end_container(shim: int) -> None:
    """Kills a container that has lost its engine: first what runs in it, then the shim that watches it."""
    children = [path.read_text().split() for path in Path(f"/proc/{shim}/task").glob("*/children")]
    for process_id in [int(child) for some in children for child in some] + [shim]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)


def remove_bridges() -> None:
    """Removes the bridges that a killed engine could not take down: those that its own records name."""
    records = WORK / "data/network/files/local-kv.db"
    if not records.exists():
        return
    known = records.read_bytes()
    for link in json.loads(run("ip", "-json", "link", "show", "type", "bridge")):
        if link["ifname"].startswith("br-") and link["ifname"].encode() in known:
            run("ip", "link", "del", link["ifname"])


def main(arguments: Sequence[str]) -> int:
    with engine() as running:
        for name, value in running.env.items():
            print(f"export {name}={value}")
        print(f"# docker is {DOCKER}; ctrl-C ends the engine", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
