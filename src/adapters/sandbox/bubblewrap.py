"""The Sandbox port by bubblewrap: what a process sees, and whether the system allows it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from ...domain.ports import Clock
from ...domain.ports.sandbox import SandboxUnavailable
from ...domain.ports.workspaces import WorkspaceFailed
from ...domain.tools import SandboxMode, SandboxPolicy
from .seccomp import call_filter

_LAUNCHER = str(Path(__file__).with_name("launcher.py"))
_SECONDS = 10.0
"""For the check whether bubblewrap works."""
_CHECK_AGAIN = 10.0
"""Seconds after a failure."""
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_NO_HOMES = (*_PROGRAMS, "/usr/bin", "/usr/sbin", "/usr/games", "/dev", "/proc", "/nonexistent")
_ETC = (
    "alternatives", "ca-certificates", "crypto-policies", "debian_version", "fonts", "host.conf",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "magic", "mime.types",
    "nsswitch.conf", "os-release", "pki/ca-trust", "pki/tls/cert.pem", "pki/tls/certs", "protocols",
    "rpc", "services", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
"""Files that many programs need. The others may hold credentials, such as /etc/ssl/private."""
_KERNEL_FILES = tuple(
    f"/proc/{name}"
    for name in (
        "kallsyms", "kcore", "key-users", "keys", "kpagecgroup", "kpagecount", "kpageflags",
        "latency_stats", "modules", "sched_debug", "slabinfo", "timer_list", "vmallocinfo",
    )
)  # fmt: skip
_KERNEL_DIRECTORIES = ("/proc/acpi", "/proc/asound", "/proc/scsi")
_ETC_NETWORK = ("gai.conf", "hosts", "resolv.conf")
_NAMESPACES = (
    "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
    "--cap-drop", "ALL",
)  # fmt: skip
_USER = 1000
"""The user in the sandbox of a Gateway of root, as many programs behave differently for root."""
_UNKNOWN_MODE = (
    'the sandbox mode "{mode}" does not exist here; set `sandbox.mode` to "bubblewrap", or to "off"'
)
_HOW = "install bubblewrap 0.8 or later (the package `bubblewrap`)"


class Bubblewrap:
    """Runs processes in namespaces of their own, with `bwrap`.

    They see the programs of the system, their workspace, and what the policy names besides. `env`:
    the environment of the Gateway, where `bwrap` is looked for. `homes`: home directories, of which
    an empty one is visible. `hidden`: the files and directories of the Gateway, which may change.
    `readable`: directories among them that can be read nevertheless, where they exist. `ensure`
    makes a workspace that is missing.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        homes: Sequence[str] = (),
        hidden: Callable[[], Sequence[str]] = lambda: (),
        readable: Sequence[str] = (),
        ensure: Callable[[str], object] = os.path.isdir,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self._path = env.get("PATH")
        self._home = env.get("HOME", "")
        self._homes = tuple(dict.fromkeys(filter(_is_home, (self._home, *homes))))
        self._hidden = hidden
        self._readable = readable
        self._ensure = ensure
        self._monotonic = monotonic
        self._bwrap = ""
        """Where it is, once it is known to work."""
        self._failure = ""
        self._check_at = 0.0
        """When to check again after a failure."""
        self._checking = asyncio.Lock()

    async def problem(self, policy: SandboxPolicy, workspace: str) -> str:
        try:
            await self._find_bwrap(policy)
            await asyncio.to_thread(self._granted, policy, workspace)
        except SandboxUnavailable as error:
            return error.message
        return ""

    async def confined(
        self, policy: SandboxPolicy, workspace: str, argv: Sequence[str], *, directory: str = ""
    ) -> list[str]:
        await self._find_bwrap(policy)
        build = self._command_line
        return await asyncio.to_thread(
            build, policy, workspace, tuple(argv), directory or workspace
        )

    async def _find_bwrap(self, policy: SandboxPolicy) -> None:
        """Check that it works, but not with every call. Raises SandboxUnavailable."""
        if policy.mode is not SandboxMode.BUBBLEWRAP:
            raise SandboxUnavailable(_refusal(_UNKNOWN_MODE.format(mode=policy.mode)))
        if not self._bwrap:
            async with self._checking:
                if not self._bwrap and self._monotonic() >= self._check_at:
                    try:
                        self._bwrap = await asyncio.to_thread(self._working)
                    except SandboxUnavailable as error:
                        self._failure = error.message
                        self._check_at = self._monotonic() + _CHECK_AGAIN
        if not self._bwrap:
            raise SandboxUnavailable(self._failure)

    def _working(self) -> str:
        """The path of a `bwrap` that works here. Raises SandboxUnavailable."""
        if sys.platform != "linux":
            raise SandboxUnavailable(_refusal("bubblewrap exists for Linux only"))
        bwrap = shutil.which("bwrap", path=self._path)
        if bwrap is None:
            raise SandboxUnavailable(_refusal(f"there is no program `bwrap`; {_HOW}"))
        bwrap = os.path.abspath(bwrap)
        options = [*_NAMESPACES, *_system(network=False), "--size", "4096", "--tmpfs", "/tmp"]  # noqa: S108
        try:
            done = subprocess.run(  # noqa: S603  # The program of the operator's system.
                [bwrap, *options, "--", "/bin/sh", "-c", "echo $$"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={},
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SandboxUnavailable(_refusal(f"{bwrap} does not end")) from None
        except OSError as error:
            raise SandboxUnavailable(_refusal(f"{bwrap} cannot be run: {error.strerror}")) from None
        # Behind the process of bubblewrap itself, the shell is the second of its PID namespace.
        if done.returncode or done.stdout != b"2\n":
            raise SandboxUnavailable(_refusal(_reason(bwrap, done.returncode, done.stderr)))
        return bwrap

    def _command_line(
        self, policy: SandboxPolicy, workspace: str, argv: Sequence[str], directory: str
    ) -> list[str]:
        try:
            self._ensure(workspace)
        except WorkspaceFailed as error:
            raise SandboxUnavailable(_refusal(error.message.rstrip("."))) from error
        granted = self._granted(policy, workspace)
        _require_visible(argv[0], [path for path, _ in granted])
        limits = policy.limits
        request: dict[str, Any] = {
            "bwrap": self._bwrap,
            "options": [*self._options(policy, granted), "--chdir", directory],
            "files": self._files(),
            "seccomp": call_filter().hex(),
            "limits": {
                "cpu": limits.cpu_seconds,
                "data": limits.memory,
                "file": limits.file_size,
                "core": 0,
                "memory": limits.memory,
                "processes": limits.processes,
            },
        }
        return [sys.executable, "-I", "-S", _LAUNCHER, json.dumps(request), *argv]

    def _options(self, policy: SandboxPolicy, granted: Sequence[tuple[str, bool]]) -> list[str]:
        size = str(policy.limits.temporary)
        options = [*_NAMESPACES, "--hostname", "sandbox"]
        options += ["--uid", str(os.getuid() or _USER), "--gid", str(os.getgid() or _USER)]
        if policy.network:
            options.append("--share-net")
        options += _system(network=policy.network)
        temporary = [("1777", "/dev/shm"), ("1777", "/tmp"), ("1777", "/var/tmp")]  # noqa: S108
        hidden = {path for one in self._hidden() for path in (one, os.path.realpath(one))}
        hidden = {path for path in hidden if _within(path, _PROGRAMS) and os.path.exists(path)}
        temporary += [("0700", home) for home in self._homes if _can_be_made(home)]
        temporary += [("0700", path) for path in sorted(hidden) if os.path.isdir(path)]
        for mode, path in temporary:
            options += ["--size", size, "--perms", mode, "--tmpfs", path]
        for path in sorted(hidden):
            if not os.path.isdir(path):
                options += ["--ro-bind", "/dev/null", path]
        for path, writable in granted:
            options += ["--bind" if writable else "--ro-bind", path, path]
        options += ["--remount-ro", "/"]
        if self._home not in self._homes:
            options += ["--setenv", "HOME", "/tmp"]  # noqa: S108
        return [*options, "--setenv", "TMPDIR", "/tmp"]  # noqa: S108

    def _granted(self, policy: SandboxPolicy, workspace: str) -> list[tuple[str, bool]]:
        """The paths besides the system's, and whether they can be written.

        Those in a path that can be written are left out: they are visible already, and a program in
        the sandbox could have replaced them with links.
        """
        found: list[tuple[str, bool]] = []
        written: list[str] = []
        for path in sorted({workspace, *policy.write}, key=_depth):
            if not _within(path, written):
                self._check(path, written, must_exist=path != workspace)
                written.append(path)
                found.append((path, True))
        readable = {*policy.read, *filter(os.path.isdir, self._readable)}
        for path in sorted(readable, key=_depth):
            if not _within(path, written):
                self._check(path, written, must_exist=True)
                found.append((path, False))
        return sorted(found, key=lambda one: _depth(one[0]))

    def _check(self, path: str, written: Sequence[str], *, must_exist: bool) -> None:
        """Raises SandboxUnavailable for a path that must not be visible, or that has another name
        in one of those that can be written."""
        if must_exist and not os.path.exists(path):
            raise SandboxUnavailable(_refusal(f"{path} does not exist"))
        real = os.path.realpath(path)
        for one in written:
            if _within(real, [os.path.realpath(one)]):
                problem = f"{path} lies in {one}, which can be written; name it by that path"
                raise SandboxUnavailable(_refusal(problem))
        for hidden, what in (
            *((home, "the home directory") for home in self._homes),
            *((one, "files of the Gateway") for one in self._hidden()),
        ):
            if _within(hidden, [path]) or _within(os.path.realpath(hidden), [real]):
                problem = f"{path} contains {what} ({hidden}), which must not be visible"
                raise SandboxUnavailable(_refusal(problem))

    def _files(self) -> dict[str, str]:
        user, group = os.getuid() or _USER, os.getgid() or _USER
        home = self._home if self._home in self._homes else "/tmp"  # noqa: S108
        nobody = "nobody:x:65534:65534::/:/usr/sbin/nologin\n"
        return {
            "/etc/passwd": f"user:x:{user}:{group}::{home}:/bin/sh\n{nobody}",
            "/etc/group": f"user:x:{group}:\nnogroup:x:65534:\n",
        }


def _system(*, network: bool) -> list[str]:
    """Options for the programs of the system, and the files that they need."""
    options: list[str] = []
    for path in _PROGRAMS:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    # Without this, a Gateway of root could have its kernel's settings written: its files belong to
    # root, and the user in the sandbox is that user by another name.
    options += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    for path in filter(os.path.exists, _KERNEL_FILES):
        options += ["--ro-bind", "/dev/null", path]
    for path in filter(os.path.isdir, _KERNEL_DIRECTORIES):
        options += ["--size", "4096", "--perms", "0555", "--tmpfs", path]
    for name in (*_ETC, *(_ETC_NETWORK if network else ())):
        options += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return options


def _is_home(path: str) -> bool:
    """Not where accounts of services have a directory of the system."""
    return bool(PurePath(path).parts[1:]) and path.rstrip("/") not in _NO_HOMES


def _can_be_made(directory: str) -> bool:
    """Whether it can be a mount point: in the programs of the system nothing can be made."""
    return not _within(directory, _PROGRAMS) or os.path.isdir(directory)


def _depth(path: str) -> int:
    """Parents are mounted before what is in them."""
    return len(PurePath(path).parts)


def _within(path: str, directories: Sequence[str]) -> bool:
    return any(PurePath(path).is_relative_to(directory) for directory in directories)


def _require_visible(program: str, granted: Sequence[str]) -> None:
    for path in (program, os.path.realpath(program)):
        if not _within(path, (*_PROGRAMS, *granted)):
            problem = f"{path} is not visible in it; name its directory in `sandbox.read`"
            raise SandboxUnavailable(_refusal(problem))


def _reason(bwrap: str, code: int, errors: bytes) -> str:
    last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
    said = f": {last[0][:300]}" if last else f", with the exit code {code}"
    advice = (
        _HOW
        if b"Unknown option" in errors
        else "allow unprivileged user namespaces on this machine (docs/tools.md says how)"
    )
    return f"{bwrap} does not work here{said}; {advice}"


def _refusal(why: str) -> str:
    return f"The sandbox is not available, and nothing is run without it: {why}."
