"""What a hostile command in the sandbox does not reach. Real processes, real attacks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from opensoul.domain.tools import SandboxPolicy
from tests.sandbox.available import (
    CONFINED,
    SYSTEM_PYTHON,
    confined_caller,
    limited,
    needs_bubblewrap,
    needs_python,
)
from tests.tools.builtin.calls import Caller
from tests.tools.builtin.test_exec import FORKING, LONG, ROOT, begun, left_in, stream_of, until

pytestmark = needs_bubblewrap

LEAKED = "leaked"


@dataclass(frozen=True, slots=True)
class Machine:
    """What an attacker would like to have: a home with secrets, and a state directory."""

    home: Path
    port: int

    @property
    def state(self) -> Path:
        return self.home / ".opensoul"

    @property
    def workspace(self) -> Path:
        return self.state / "workspace"

    def caller(self, policy: SandboxPolicy = CONFINED) -> Caller:
        return confined_caller(self.home, policy, variables={"OPENAI_API_KEY": LEAKED})


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    """With a server on the loopback interface, where the Gateway has one."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(LEAKED.encode())
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    found = Machine(tmp_path / "home", server.sockets[0].getsockname()[1])
    (found.home / ".ssh").mkdir(parents=True)
    (found.home / ".ssh" / "id").write_text(LEAKED)
    found.workspace.mkdir(parents=True)
    (found.state / "token").write_text(LEAKED)
    (found.workspace / "home").symlink_to(found.home)
    (found.workspace / "state").symlink_to("..")
    async with server:
        yield found


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same account with a secret in its environment."""
    with subprocess.Popen(["/bin/sleep", str(LONG)], env={"SECRET": LEAKED}) as found:
        yield found
        found.kill()


READS = {
    "home": "cat ~/.ssh/id; ls -R ~",
    "home by path": "cat {home}/.ssh/id",
    "state": "cat {state}/token; ls {state}",
    "a link to home": "cat home/.ssh/id",
    "a link to the parent": "cat state/token",
    "parent folders": "cat ../token; cat $(pwd -P)/../../.ssh/id",
    "a new link": "ln -s {home} new; cat new/.ssh/id",
    "a hard link": "ln {home}/.ssh/id hard; cat hard",
    "roots of processes": "cat /proc/*/root{home}/.ssh/id; cat /proc/*/cwd/../token",
    "environments": "cat /proc/[0-9]*/environ",
    "environment": "env; export; declare -p",
    "descriptors": "cat /proc/[0-9]*/fd/* & sleep 0.5; kill %1",
    "memory of a process": "for p in /proc/[0-9]*; do head -c 100 $p/mem; strings $p/maps; done",
    "loopback": "exec 3<>/dev/tcp/127.0.0.1/{port} && cat <&3",
    "loopback of IPv6": "exec 3<>/dev/tcp/::1/{port} && cat <&3",
    "password hashes": "cat /etc/shadow && echo leaked",
    "block devices": "ls /dev/sd* /dev/vd* /dev/nvme* /dev/mem && echo leaked",
    "a device of its own": "mknod disk b 254 0 && head -c 10 disk && echo leaked",
    "the host's run": "ls /run /var/run && echo leaked",
    "a user namespace": "unshare -U true && echo leaked",
    "a user namespace of root": "unshare -r mount -t tmpfs x /mnt && echo leaked",
    "a mount namespace": "unshare -m true && echo leaked",
    "a mount": "mount -t proc proc /tmp && echo leaked",
    "the namespaces of the host": "nsenter -t 1 -a true 2>&1 | grep -q leaked; "
    "nsenter -t 1 -U --preserve-credentials cat {home}/.ssh/id",
    # To open them is enough: as little as possible happens where an attack works.
    "core dumps to a program": ": >> /proc/sys/kernel/core_pattern && echo leaked",
    "any setting of the kernel": "find /proc/sys -type f | while read f; do : >> $f && echo leaked;"
    " done",
    "magic keys": ": >> /proc/sysrq-trigger && echo leaked",
    "permissions of devices": "chmod 666 /dev/null && echo leaked",
    "memory of the kernel": "head -c 1 /proc/kcore | grep . && echo leaked; wc -c < /proc/keys"
    " | grep -v '^0' && echo leaked",
    "capabilities": "grep -E 'Cap(Eff|Prm|Bnd)' /proc/self/status | grep -v '0000000000000000$'"
    " && echo leaked",
    "new privileges": "grep 'NoNewPrivs:.*0' /proc/self/status && echo leaked",
    "the terminal": "echo x > /dev/tty && echo leaked",
}


@pytest.mark.parametrize("attack", READS)
async def test_a_command_does_not_reach(
    machine: Machine, process: subprocess.Popen[bytes], attack: str
) -> None:
    command = READS[attack]
    for name in ("home", "state", "port"):
        command = command.replace(f"{{{name}}}", str(getattr(machine, name)))

    result = await machine.caller().result("exec", command=f"{{ {command} ; }} 2>&1; true")

    assert not result.is_error, result.text
    assert LEAKED not in result.text.replace(f"echo {LEAKED}", "")
    assert process.poll() is None


# Each ends with 0 only where the system call did what it is for.
CALLS = {
    "keys of the kernel": "import ctypes; c = ctypes.CDLL(None)\n"
    "ok = c.syscall(250 if X86 else 219, 0, -3, 1) >= 0",
    "sockets of virtual machines": "import socket; socket.socket(40, 1); ok = True",
    "raw sockets": "import socket; socket.socket(2, 3, 1).sendto(b'x', ('8.8.8.8', 0)); ok = True",
    "typing into a terminal": "import fcntl, os, pty; a, b = pty.openpty()\n"
    "fcntl.ioctl(b, 0x5412, b'x'); ok = True",
    "io_uring": "import ctypes; c = ctypes.CDLL(None)\n"
    "ok = c.syscall(425, 1, ctypes.create_string_buffer(120)) >= 0",
    "abstract sockets of the host": "import socket\n"
    "s = socket.socket(1, 1); s.connect('\\0opensoul-' + NAME); ok = True",
    "signals to other processes": "import os; os.kill(HOST, 0); ok = True",
    "tracing other processes": "import ctypes; c = ctypes.CDLL(None)\n"
    "ok = c.ptrace(16, HOST, 0, 0) == 0",
}


@needs_python
@pytest.mark.parametrize("attack", CALLS)
async def test_a_program_does_not_use(
    machine: Machine, process: subprocess.Popen[bytes], attack: str
) -> None:
    name = f"opensoul-{machine.port}"
    server = await asyncio.start_unix_server(lambda *_: None, f"\0{name}")
    (machine.workspace / "attack.py").write_text(
        "import platform, sys\n"
        f"X86, HOST, NAME = platform.machine() == 'x86_64', {process.pid}, '{machine.port}'\n"
        f"{CALLS[attack]}\n"
        "sys.exit(0 if ok else 5)\n"
    )
    async with server:
        result = await machine.caller().result("exec", command=f"{SYSTEM_PYTHON} attack.py")

    assert result.text.endswith(("[exit code 5]", "[exit code 1]")), result.text
    assert "SyntaxError" not in result.text


@needs_python
async def test_without_the_sandbox_these_attacks_work(
    machine: Machine, process: subprocess.Popen[bytes]
) -> None:
    """So the tests above test something."""
    caller = machine.caller()
    caller.agent = replace(caller.agent, sandbox=SandboxPolicy())
    command = (
        f"cat ~/.ssh/id state/token /proc/{process.pid}/environ;"
        f" exec 3<>/dev/tcp/127.0.0.1/{machine.port}; cat <&3"
    )

    text = await caller.text("exec", command=command)

    assert text.replace("\0", "") == f"{LEAKED}{LEAKED}SECRET={LEAKED}{LEAKED}"


WRITES = {
    "home": "echo x > {home}/new",
    "a link": "echo x > home/new",
    "state": "echo x > {state}/new",
    "parent folder": "echo x > ../new",
    "the system": "echo x > /usr/new",
    "settings of the system": "echo x > /etc/new",
    "temporary files": "echo x > {tmp}/new",
    "the root": "echo x > /new",
    "devices": "echo x > /dev/new",
    "removal": "rm -rf {home}/.ssh {state}/token",
}


@pytest.mark.parametrize("attack", WRITES)
async def test_a_command_does_not_change(machine: Machine, attack: str) -> None:
    tmp = machine.home.parent
    command = WRITES[attack].replace("{tmp}", str(tmp))
    for name in ("home", "state"):
        command = command.replace(f"{{{name}}}", str(getattr(machine, name)))

    await machine.caller().result("exec", command=command)

    assert not list(tmp.rglob("new"))
    assert not any(map(os.path.exists, ("/new", "/usr/new", "/etc/new", "/dev/new")))
    assert (machine.home / ".ssh" / "id").read_text() == LEAKED
    assert (machine.state / "token").read_text() == LEAKED


async def test_a_command_works_in_the_workspace(machine: Machine) -> None:
    shell = machine.caller()
    await shell.text("write", path="sub/a.txt", content="one\n")

    text = await shell.text("exec", command="cat a.txt; echo two > b.txt; pwd", workdir="sub")

    assert text == f"one\n{machine.workspace}/sub\n"
    assert await shell.text("read", path="sub/b.txt") == "two\n"
    assert (machine.workspace / "sub/b.txt").stat().st_uid == os.getuid()


@pytest.mark.parametrize("folder", ["inside", "home"])
async def test_the_folder_of_a_command_is_the_one_that_was_checked(
    machine: Machine, folder: str
) -> None:
    (machine.workspace / "real").mkdir()
    (machine.workspace / "inside").symlink_to("real")

    result = await machine.caller().result("exec", command="pwd", workdir=folder)

    if folder == "inside":
        assert result.text == f"{machine.workspace}/real\n"
    else:
        assert "leads out of the workspace" in result.text


async def test_programs_that_need_a_home_and_temporary_files_have_empty_ones(
    machine: Machine,
) -> None:
    command = "ls -A ~; echo a > ~/.rc; mktemp; cat ~/.rc; id -un"

    text = await machine.caller().text("exec", command=command)

    listed, temporary, written, user = text.split()
    assert (listed, written, user) == (".opensoul", "a", "user")
    assert temporary.startswith("/tmp/")  # noqa: S108
    assert not (machine.home / ".rc").exists()


async def test_the_exit_code_is_the_commands(machine: Machine) -> None:
    assert await machine.caller().error("exec", command="echo no; exit 3") == "no\n[exit code 3]"


async def test_paths_that_the_policy_names_can_be_read_or_written(
    machine: Machine, tmp_path: Path
) -> None:
    library, cache = tmp_path / "library", machine.home / ".cache"
    library.mkdir()
    cache.mkdir()
    (library / "a").write_text("text")
    policy = replace(CONFINED, read=(str(library),), write=(str(cache),))

    text = await machine.caller(policy).text(
        "exec", command=f"cat {library}/a; echo b > ~/.cache/b; touch {library}/b 2>&1 || true"
    )

    assert text.startswith("text")
    assert "Read-only file system" in text
    assert (cache / "b").read_text() == "b\n"


async def test_with_the_network_other_machines_are_reached(machine: Machine) -> None:
    policy = replace(CONFINED, network=True)

    text = await machine.caller(policy).text("exec", command=READS["loopback"].format(
        port=machine.port))  # fmt: skip

    assert text == LEAKED


@pytest.mark.both_loops
async def test_a_command_gets_no_open_file_of_the_gateway(machine: Machine) -> None:
    secret = os.open(machine.state / "token", os.O_RDONLY)
    os.set_inheritable(secret, True)

    text = await machine.caller().text("exec", command="ls -l /proc/[0-9]*/fd")

    os.close(secret)
    assert "token" not in text


@pytest.mark.both_loops
async def test_a_command_has_the_signals_of_a_new_process(machine: Machine) -> None:
    text = await machine.caller().text("exec", command="grep SigIgn /proc/self/status")

    # The C library has two signals of its own, which a program cannot set.
    settable = sum(1 << (number - 1) for number in signal.valid_signals())
    assert int(text.split()[1], 16) & settable == 0


async def test_a_command_ends_with_a_gateway_that_was_killed(machine: Machine) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from tests.sandbox.available import confined_caller\n"
        "asyncio.run(confined_caller(Path(sys.argv[1])).result('exec', command=sys.argv[2]))\n"
    )
    command = f"setsid sleep {LONG} & echo > begun; sleep {LONG}"
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(machine.home), command, cwd=ROOT
    )
    try:
        await until((machine.workspace / "begun").exists)
        assert left_in(machine.workspace)
    finally:
        gateway.kill()
        await gateway.wait()

    await until(lambda: not left_in(machine.workspace))


@pytest.mark.parametrize("kind", FORKING)
@pytest.mark.parametrize("ending", ["exits", "cancelled"])
async def test_all_processes_of_a_command_end_with_it(
    machine: Machine, kind: str, ending: str
) -> None:
    shell = machine.caller()
    count = 16 if kind == "tree" else 2 if kind == "background" else 1
    command = f": > pids; {FORKING[kind]}\n"
    command += f"until [ $(wc -l < pids) = {count} ]; do sleep 0.01; done\n"
    if ending == "exits":
        await shell.text("exec", command=command)
    else:
        stream = stream_of(shell, f"{command} echo begun; sleep {LONG}")
        await begun(stream, "begun")
        assert left_in(machine.workspace)
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert left_in(machine.workspace) == []


async def test_a_command_that_hangs_is_ended_at_its_time_limit(machine: Machine) -> None:
    command = f"trap '' TERM INT HUP; setsid sleep {LONG} & sleep {LONG}"

    text = await machine.caller().error("exec", command=command, timeout=1)

    assert text.endswith("[ended after 1 seconds, the time limit of this call]")
    assert left_in(machine.workspace) == []


def launcher_of(home: Path) -> int:
    """The process that runs the sandbox."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if len(words) > 4 and words[3].endswith("launcher.py") and str(home) in words[4]:
                return int(path.parent.name)
    raise AssertionError


async def test_what_a_command_starts_ends_with_the_launcher(machine: Machine) -> None:
    """As when the kernel, short of memory, chooses it."""
    stream = stream_of(machine.caller(), f"echo begun; setsid sleep {LONG} & sleep {LONG}")
    async with aclosing(stream):
        await begun(stream, "begun")
        os.kill(launcher_of(machine.home), signal.SIGKILL)
        outputs = [output async for output in stream]

    assert outputs[-1].text.endswith("[ended by signal 9]")
    assert left_in(machine.workspace) == []


async def test_of_100_megabytes_the_beginning_and_the_end_are_kept(machine: Machine) -> None:
    command = "echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo last"

    text = await machine.caller().text("exec", command=command)

    assert text.startswith("first\nxxx")
    assert text.endswith("xxxlast\n")
    assert len(text) < 200_000


FILLS = {
    "temporary files": "head -c 9000000 /dev/zero > /tmp/x",
    "other temporary files": "head -c 9000000 /dev/zero > /var/tmp/x",
    "shared memory": "head -c 9000000 /dev/zero > /dev/shm/x",
    "home": "head -c 9000000 /dev/zero > ~/x",
}


@pytest.mark.parametrize("place", FILLS)
async def test_a_command_does_not_fill(machine: Machine, place: str) -> None:
    text = await machine.caller(limited(temporary=1024 * 1024)).error("exec", command=FILLS[place])

    assert "No space left on device" in text


async def test_a_file_has_a_largest_size(machine: Machine) -> None:
    command = "head -c 9000000 /dev/zero > big"

    text = await machine.caller(limited(file_size=1024 * 1024)).error("exec", command=command)

    assert text.endswith("[exit code 153]")  # SIGXFSZ
    assert (machine.workspace / "big").stat().st_size == 1024 * 1024


async def test_a_bomb_of_processes_is_ended(machine: Machine) -> None:
    # Bounded, so that it also ends where the sandbox does not end it.
    command = f"for i in $(seq 400); do sleep {LONG} & done; wait"

    result = await machine.caller(limited(processes=100)).result("exec", command=command)

    # A kernel that counts refuses to make more; otherwise the launcher ends everything.
    assert "more than 100 processes" in result.text or "temporarily unavailable" in result.text
    assert left_in(machine.workspace) == []


@needs_python
@pytest.mark.parametrize("processes", [1, 4])
async def test_memory_is_limited(machine: Machine, processes: int) -> None:
    size = 80_000_000 if processes > 1 else 300_000_000
    program = f"{SYSTEM_PYTHON} -c 'import time; x = b\"x\" * {size}; time.sleep({LONG})'"
    command = f"for i in $(seq {processes}); do {program} & done; wait -n; kill 0"

    text = await machine.caller(limited(memory=200 * 1024 * 1024)).error("exec", command=command)

    assert "MemoryError" in text if processes == 1 else "more than 200 MB of memory" in text
    assert left_in(machine.workspace) == []


@needs_python
async def test_memory_that_processes_share_is_counted_once(machine: Machine) -> None:
    (machine.workspace / "fork.py").write_text(
        "import os, time\n"
        "shared = b'x' * 80_000_000\n"
        "for _ in range(3):\n"
        "    if not os.fork():\n"
        "        break\n"
        "time.sleep(0.8)\n"  # Three looks of the launcher.
    )
    shell = machine.caller(limited(memory=200 * 1024 * 1024))

    text = await shell.text("exec", command=f"{SYSTEM_PYTHON} fork.py; wait; echo done")

    assert text == "done\n"


async def test_processor_time_is_limited(machine: Machine) -> None:
    command = "( while :; do :; done ); echo $?"

    text = await machine.caller(limited(cpu_seconds=1)).text("exec", command=command)

    assert text.splitlines()[-1] == "137"
