"""Work in FairThreads shortens the interpreter's switch interval, and only for as long."""

from __future__ import annotations

import sys
import threading

import pytest

from opensoul.domain.concurrency import FairThreads


def test_the_switch_interval_is_short_while_any_thread_works() -> None:
    usual, both, go_on = sys.getswitchinterval(), threading.Barrier(3), threading.Event()

    def work() -> float:
        both.wait(10)
        go_on.wait(10)
        return sys.getswitchinterval()

    with FairThreads(2) as threads:
        working = [threads.submit(work), threads.submit(work)]
        both.wait(10)
        assert sys.getswitchinterval() < usual / 5
        go_on.set()
        assert all(one.result(10) < usual / 5 for one in working)

    assert sys.getswitchinterval() == pytest.approx(usual)


def test_work_that_fails_restores_the_switch_interval_and_its_error_is_raised() -> None:
    usual = sys.getswitchinterval()

    def fail() -> None:
        raise ValueError("no")

    with FairThreads(1) as threads, pytest.raises(ValueError, match="no"):
        threads.submit(fail).result(10)

    assert sys.getswitchinterval() == pytest.approx(usual)
