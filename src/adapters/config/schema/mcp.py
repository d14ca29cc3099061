"""`mcp.*`: servers of tools, over the Model Context Protocol."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from .fields import PathText, Section, SomeMilliseconds, Text, setting
from .providers import Headers
from .sandbox import ServerSandbox


def _url(value: str) -> str:
    try:
        url = urlsplit(value)
        fit = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        fit = False
    if not fit or url.username is not None or not value.isprintable() or " " in value:
        raise ValueError("must be an http:// or https:// URL without user name")
    return value


_Variables = dict[
    Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")], str | int | float | bool
]


class McpTools(Section):
    allow: list[Text] | None = None
    """Patterns of the server's own names of its tools, such as `read_*`. Only these can be
    offered. Left out: all; `[]`: none."""
    deny: list[Text] = setting(list)
    """Patterns of tools that are never offered; they win."""


class McpServer(Section):
    enabled: bool = True
    """Whether the server may be started."""
    transport: Literal["stdio", "streamable-http", "http", "sse"] | None = None
    """How the server is reached. Left out: `stdio` with `command`, `streamable-http` (the same as
    `http`) with `url`. `sse` is the older transport over HTTP."""
    command: Text | None = setting(None, machine="launch")
    """The program of a server that is a child process."""
    args: list[str] = setting(list, machine="launch")
    """The arguments of the program."""
    env: _Variables = setting(dict, secret=True, machine="launch")
    """Variables for the program. Besides them it gets HOME, LANG, LC_ALL, LOGNAME, PATH, SHELL,
    TERM, TMPDIR, TZ and USER only."""
    cwd: PathText | None = setting(None, machine="launch")
    """The working directory of the program, relative to the configuration. Left out: the
    Gateway's."""
    url: Annotated[str, AfterValidator(_url)] | None = setting(None, machine="launch")
    """The URL of a server that is reached over HTTP."""
    headers: Headers = setting(dict, secret=True, machine="launch")
    """Headers sent with every request to `url`."""
    tools: McpTools = setting(McpTools)
    """Which of its tools can be offered."""
    sandbox: ServerSandbox = setting(ServerSandbox, addition=True)
    """What the program can reach of this machine."""
    connection_timeout_ms: SomeMilliseconds = 30_000
    """The time within which the server must be ready after its start."""
    request_timeout_ms: SomeMilliseconds = 60_000
    """The time within which the server must answer a call."""


class McpSection(Section):
    servers: dict[Text, McpServer] = setting(dict, machine="launch")
    """The servers by name. Their tools are called `NAME__TOOL`. No tool is offered to an agent
    only because its server is listed here."""
