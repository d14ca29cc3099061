"""Errors of the Gateway as errors of JSON-RPC."""

from __future__ import annotations

from collections.abc import Mapping

from a2a.utils.error_handlers import ERROR_INFO_TYPE

from ..http import Problem

_INVALID, _NOT_FOUND, _INTERNAL, _SERVER = -32602, -32001, -32603, -32000
_CODES: Mapping[str, int] = {"unknown_run": _NOT_FOUND, "run_not_found": _NOT_FOUND}
_OF_PROTOCOL = frozenset({400, 404, 409, 410})
"""Statuses of problems that the SDK's client expects within a response of status 200."""
_DOMAIN = "opensoul"


def code_of(problem: Problem) -> int:
    """The code of JSON-RPC for a problem."""
    if problem.code in _CODES:
        return _CODES[problem.code]
    if problem.status in _OF_PROTOCOL:
        return _INVALID
    return _SERVER if problem.status < 500 else _INTERNAL


def status_of(problem: Problem) -> int:
    """The HTTP status of the response: problems of the credential, of limits and of the Gateway
    itself have the status that they have everywhere."""
    return 200 if problem.status in _OF_PROTOCOL else problem.status


def details_of(problem: Problem) -> list[dict[str, object]]:
    """The `data` of the error: https://google.aip.dev/193#errorinfo"""
    metadata = {} if problem.param is None else {"param": problem.param}
    reason = problem.code.upper()
    return [{"@type": ERROR_INFO_TYPE, "reason": reason, "domain": _DOMAIN, "metadata": metadata}]
