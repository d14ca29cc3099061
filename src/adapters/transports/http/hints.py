"""What a 404 or a 405 adds for a client that expects another API or has another base URL.

The names of settings are those of the clients' own documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

_CHAT = "POST /v1/chat/completions"
_BASE_URL = (
    "Set the client's base URL to the Gateway's address with `/v1` at its end, once and with "
    "nothing after it."
)
_CHAT_INSTEAD = (
    'AI SDK: `provider.chat("opensoul")`; OpenAI Agents SDK: '
    '`set_default_openai_api("chat_completions")`; LangChain: '
    "`ChatOpenAI(use_responses_api=False)`; Pydantic AI: `OpenAIChatModel`; promptfoo: "
    "`openai:chat:opensoul`; OpenAI's libraries: `client.chat.completions.create`."
)
_RESPONSES = (
    "The Responses API is at POST /v1/responses, where gateway.http.endpoints.responses.enabled is "
    f"true. {_BASE_URL} Otherwise use chat completions ({_CHAT}). {_CHAT_INSTEAD}"
)
_MESSAGES = (
    "Of Anthropic's API only POST /v1/messages and POST /v1/messages/count_tokens are served. Set "
    "the client's base URL to the Gateway's address, without `/v1` at its end; for "
    "`@ai-sdk/anthropic` with it. Chat completions are at "
    f"{_CHAT}."
)
_COMPLETIONS = (
    "Completions of a plain prompt are at POST /v1/completions, where "
    "gateway.http.endpoints.completions.enabled is true; otherwise use chat completions "
    f"({_CHAT}). LangChain: `ChatOpenAI` in place of `OpenAI`; LlamaIndex: "
    "`OpenAILike(is_chat_model=True)`; LiteLLM: model `openai/opensoul`; promptfoo: "
    "`openai:chat:opensoul`."
)
_EMBEDDINGS = (
    "Embeddings are at POST /v1/embeddings, where gateway.http.endpoints.embeddings.enabled is "
    "true; otherwise configure another provider for the client's embedding model. Chat completions "
    f"are at {_CHAT}."
)
_OTHER_OPENAI = (
    f"Of OpenAI's API only {_CHAT}, GET /v1/models, and what gateway.http.endpoints switches on "
    "are served."
)
_OLLAMA = (
    "Ollama's API is not served. Choose the client's OpenAI-compatible provider: chat completions "
    f"are at {_CHAT}. {_BASE_URL}"
)
_GEMINI = (
    "Gemini's API is not served. Choose the client's OpenAI-compatible provider: chat completions "
    f"are at {_CHAT}. {_BASE_URL}"
)
_OVERVIEW = (
    f"The Gateway serves {_CHAT}, GET /v1/models, GET /healthz and GET /readyz, and WebSocket "
    "connections on every path."
)
_MCP = (
    "The MCP server is at /mcp, over streamable HTTP; the older transport over SSE is not served. "
    "Claude Code: `--transport http`; Cursor and VS Code: an `url` that ends with /mcp."
)
_OAUTH = (
    "The Gateway has no OAuth: send a key or the Gateway's secret in the header `Authorization: "
    "Bearer`."
)
_A2A = (
    "A2A is served as JSON-RPC at POST /a2a and POST /a2a/AGENT; the agent card is at "
    "GET /.well-known/agent-card.json."
)
_HEALTH = "GET /healthz and GET /readyz are the health checks."

_BY_FIRST: Mapping[str, str] = {
    first: hint
    for hint, names in (
        (_RESPONSES, "responses conversations"),
        (_MESSAGES, "messages complete"),
        (_COMPLETIONS, "completions"),
        (_EMBEDDINGS, "embeddings rerank"),
        (_GEMINI, "v1beta"),
        (_MCP, "sse"),
        (_A2A, "message:send message:stream tasks extendedagentcard"),
        (_HEALTH, "health healthcheck livez ping ready status"),
        (_OTHER_OPENAI, "assistants audio batches containers evals files fine_tuning images"),
        (_OTHER_OPENAI, "moderations realtime threads uploads vector_stores videos"),
    )
    for first in names.split()
}
_OLLAMA_CALLS = frozenset({"chat", "embed", "embeddings", "generate", "ps", "show", "tags"})


WORKER = (
    "This process executes agents (node.role is `worker`) and accepts no requests: send them to a"
    " node with the role `gateway` or `all`."
)


def hint_for(path: str) -> str:
    """A sentence for a path where nothing is; empty where nothing is known about the path."""
    steps = [step for step in path.lower().split("/") if step]
    if _contains(steps, ("chat", "completions")):
        return f"Chat completions are at {_CHAT}. {_BASE_URL}"
    if steps[:1] == ["api"] and steps[1:2] and steps[1] in _OLLAMA_CALLS:
        return _OLLAMA
    if steps[:1] == ["a2a"] or steps == [".well-known", "agent.json"]:
        return _A2A
    rest = _without_base(steps)
    if not rest:
        return _OVERVIEW
    if rest[0] == ".well-known" and rest[1:] and rest[1].startswith("oauth-"):
        return _OAUTH
    if rest[0] in _BY_FIRST:
        return _BY_FIRST[rest[0]]
    if "models" in steps:
        return f"The agents are listed at GET /v1/models. {_BASE_URL}"
    return ""


def hint_for_switched_off(path: str) -> str:
    """How clients of an endpoint that is switched off use chat completions."""
    hint = f"Chat completions are at {_CHAT}."
    is_responses = _BY_FIRST.get((_without_base(path.split("/")) or [""])[0]) is _RESPONSES
    return f"{hint} {_CHAT_INSTEAD}" if is_responses else hint


def hint_for_route(path: str) -> str:
    """A sentence for a path that is nearly that of a route; empty where there is no such route."""
    return f"Use {path} instead." if path else ""


def hint_for_method(path: str) -> str:
    """A sentence for a path where other methods are served."""
    if path.startswith("/v1/"):
        return f"Chat completions are at {_CHAT}; GET /v1/models lists the agents."
    return ""


def expects_anthropic(path: str, *, versioned: bool = False) -> bool:
    """Whether a client that requests this path expects errors in the format of Anthropic's API.
    `versioned`: the request has the header `anthropic-version`."""
    first = _without_base(path.split("/"))[:1]
    return first == ["messages"] or (versioned and first == ["models"])


def _without_base(steps: Sequence[str]) -> list[str]:
    """The steps behind what base URLs begin with."""
    rest = list(steps)
    while rest and rest[0] in ("", "api", "openai", "v1"):
        del rest[0]
    return rest


def _contains(steps: Sequence[str], wanted: tuple[str, str]) -> bool:
    return wanted in pairwise(steps)
