"""`store` and `node`: the database that several processes share, and the role of this one."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .fields import SecretText, Section, setting

_NAME = re.compile(r"[\w.:@-]{1,128}")


def _node_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 128 letters, digits or characters of `_.:@-`")
    return value


NodeName = Annotated[str, AfterValidator(_node_name)]
LeaseSeconds = Annotated[float, Field(ge=1, le=3_600, allow_inf_nan=False)]


class StoreSection(Section):
    url: SecretText | None = setting(
        None, addition=True, restart=True, secret=True, machine="store"
    )
    """The PostgreSQL database (15 or later) that keeps sessions, runs, keys and devices, as an
    address of libpq such as `postgresql://user:password@host/name`. All processes with the same
    database are one Gateway. Left out: OPENSOUL_DATABASE_URL, then files in the state directory."""
    listen_url: SecretText | None = setting(
        None, addition=True, restart=True, secret=True, machine="store"
    )
    """The address of the same database without the pooler, where `url` is that of a pooler in
    transaction mode such as PgBouncer: notifications do not pass through one."""


class NodeSection(Section):
    role: Literal["all", "gateway", "worker"] = setting("all", addition=True, restart=True)
    """`gateway`: this process accepts requests and executes no agent; `worker`: it executes agents
    and serves only `/healthz`, `/readyz` and `/metrics`; `all`: both. Without `store.url` only
    `all` is possible."""
    name: NodeName | None = setting(None, addition=True, restart=True)
    """What `opensoul nodes` and the log call this process. Left out: the name of the machine and
    the port."""
    lease_seconds: LeaseSeconds = setting(10, addition=True, restart=True)
    """Seconds for which a process holds a run without renewing its lease in the database; then
    another process takes the run over."""
    agents: list[str] | None = setting(None, addition=True)
    """The ids of the agents that this process executes, such as those whose workspace it has. Runs
    of the others are left to other processes. Left out: all agents."""
    config: Literal["file", "database"] = setting("file", addition=True, restart=True)
    """`database`: all nodes have the configuration that is in the database, and a change at one of
    them is in force at all. The file of each node then has the keys that are its own: `store`,
    `node`, `gateway.port`, `gateway.bind`, `gateway.customBindHost`, `gateway.tls` and
    `logging.file`. Where the database has no configuration yet, the first node that starts stores
    the other keys of its file. Secrets stay with the nodes, as references such as `${NAME}`."""
