"""A process that takes the lock on a state directory, starts a child of its own, and stays."""

from __future__ import annotations

import subprocess
import sys

from opensoul.adapters.system.files.state_lock import StateLock


def main(state_dir: str) -> None:
    lock = StateLock(state_dir)
    lock.acquire()
    lock.announce("127.0.0.1:18789")
    waits_for_input = [sys.executable, "-c", "input()"]
    with subprocess.Popen(waits_for_input) as grandchild:
        print(grandchild.pid, flush=True)
        grandchild.wait()


if __name__ == "__main__":
    main(sys.argv[1])
