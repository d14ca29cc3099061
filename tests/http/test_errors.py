"""Every error of the domain has a status, a type and a code of its own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import opensoul.adapters
import opensoul.domain
from opensoul.adapters.transports.http.errors import answer, problem_of
from opensoul.domain.errors import (
    FailureKind,
    GatewayError,
    ModelFailed,
    RunFailed,
    Unavailable,
    UnknownSession,
)

for package in (opensoul.domain, opensoul.adapters):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)


def tree(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    for kind in root.__subclasses__():
        if kind.__module__.startswith("opensoul."):
            yield kind
        yield from tree(kind)


KINDS = sorted(set(tree()) - {ModelFailed}, key=lambda kind: kind.__name__)
TYPES = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "conflict_error",
    "rate_limit_error",
    "server_error",
}


def instance(kind: type[GatewayError]) -> GatewayError:
    """An error of that kind, however it is made: only its message is looked at."""
    error = kind.__new__(kind)
    GatewayError.__init__(error, "What happened.")
    return error


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_every_kind_of_error_has_its_status(kind: type[GatewayError]) -> None:
    problem = problem_of(instance(kind))

    assert problem.message == "What happened."
    assert problem.code == kind.code
    assert problem.code != GatewayError.code
    assert problem.type in TYPES
    assert problem.status != 500 or kind is RunFailed, "nothing is an internal error by mistake"
    assert answer(problem).status_code == problem.status


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_model_failure_has_its_status(kind: FailureKind) -> None:
    problem = problem_of(ModelFailed(kind, "What happened."))

    assert 400 <= problem.status < 600
    assert problem.status != 500
    assert problem.type in TYPES


@pytest.mark.parametrize(
    ("error", "status", "kind", "retry"),
    [
        (UnknownSession("No session."), 404, "invalid_request_error", True),
        (Unavailable("No channels here."), 501, "server_error", False),
    ],
)
def test_what_is_not_there_is_no_internal_error(
    error: GatewayError, status: int, kind: str, retry: bool
) -> None:
    problem = problem_of(error)

    assert (problem.status, problem.type, problem.retry) == (status, kind, retry)
    assert problem.message == error.message
