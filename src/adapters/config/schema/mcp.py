"""`mcp.*`: servers of tools, over the Model Context Protocol."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from .fields import PathText, Section, SomeMilliseconds, Text, section, setting
from .providers import Headers

_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"


def _url(value: str) -> str:
    try:
        url = urlsplit(value)
        fit = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        fit = False
    if not fit or url.username is not None or not value.isprintable() or " " in value:
        raise ValueError("must be an http:// or https:// URL without user name")
    return value


class McpTools(Section):
    allow: list[Text] | None = setting(
        None,
        "Patterns of the server's own names of its tools, such as `read_*`. Only these can be "
        "offered. Left out: all; `[]`: none.",
    )
    deny: list[Text] = setting([], "Patterns of tools that are never offered; they win.")


class McpServer(Section):
    enabled: bool = setting(True, "Whether the server may be started.")
    transport: Literal["stdio", "streamable-http", "http", "sse"] | None = setting(
        None,
        "How the server is reached. Left out: `stdio` with `command`, `streamable-http` (the same "
        "as `http`) with `url`. `sse` is the older transport over HTTP.",
    )
    command: Text | None = setting(
        None, "The program of a server that is a child process.", machine="launch"
    )
    args: list[str] = setting([], "The arguments of the program.", machine="launch")
    env: dict[Annotated[str, Field(pattern=_NAME)], str | int | float | bool] = Field(
        default_factory=dict,
        description="Variables for the program. Besides them it gets HOME, LANG, LC_ALL, LOGNAME, "
        "PATH, SHELL, TERM, TMPDIR, TZ and USER only.",
        json_schema_extra={"x-secret": True, "x-machine": "launch", "x-free": []},
        repr=False,
    )
    cwd: PathText | None = setting(
        None,
        "The working directory of the program, relative to the configuration. Left out: the "
        "Gateway's.",
        machine="launch",
    )
    url: Annotated[str, AfterValidator(_url)] | None = setting(
        None, "The URL of a server that is reached over HTTP.", machine="launch"
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Headers sent with every request to `url`.",
        json_schema_extra={"x-secret": True, "x-machine": "launch", "x-free": []},
        repr=False,
    )
    tools: McpTools = section(McpTools, "Which of its tools can be offered.")
    connection_timeout_ms: SomeMilliseconds = setting(
        30_000, "The time within which the server must be ready after its start."
    )
    request_timeout_ms: SomeMilliseconds = setting(
        60_000, "The time within which the server must answer a call."
    )


class McpSection(Section):
    servers: dict[Text, McpServer] = Field(
        default_factory=dict,
        description="The servers by name. Their tools are called `NAME__TOOL`. No tool is offered "
        "to an agent only because its server is listed here.",
    )
