"""PgBouncer in front of a server, for tests. Without it they say that they are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PATIENCE = 60.0
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SERVER = "server"
"""The file with the address of the server, in the folder of a pooler's socket."""
_CONFIG = """
[databases]
pooled = {target}
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
auth_type = any
pool_mode = {mode}
server_reset_query =
logfile = {folder}/log
pidfile = {folder}/pid
ignore_startup_parameters = extra_float_digits,options
"""


@contextmanager
def pooled(url: str, mode: str = "transaction") -> Iterator[str]:
    """The address of a pooler of `url`, each of whose connections uses the same schema."""
    if PROGRAM is None:
        pytest.skip("no PgBouncer: install the package pgbouncer")
    given = conninfo_to_dict(url)
    target = {name: given[name] for name in ("host", "port", "dbname", "user") if given.get(name)}
    schema = str(given.get("options", "")).partition("search_path=")[2] or "public"
    connect = f"connect_query='SET search_path = {schema}'"
    words = " ".join(f"{name}={value}" for name, value in target.items())
    folder = Path(tempfile.mkdtemp(prefix="opensoul-pool-"))
    (folder / "ini").write_text(
        _CONFIG.format(target=f"{words} {connect}", folder=folder, mode=mode)
    )
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:  # It refuses to run as root.
        shutil.chown(folder, user)
    (folder / SERVER).write_text(url)
    process = subprocess.Popen(
        [PROGRAM, str(folder / "ini")],
        user=user,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = make_conninfo(host=str(folder), port=6432, dbname="pooled", user=given.get("user"))
    try:
        _wait_for(address)
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder)


def server_of(url: str) -> str:
    """The address of the server, where `url` is that of a pooler; else nothing."""
    file = Path(str(conninfo_to_dict(url).get("host", ""))) / SERVER
    return file.read_text() if file.is_file() else ""


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)  # A pooler that starts says nowhere that it is ready.
        else:
            return
