"""Keys of compatible files that have no effect here, as one table.

Their values are not checked, variables in them are not replaced, and a note names each at the
start. A path has `*` for the key of a record and the position in a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Inert:
    """`note`: what applies instead. `silent`: about the file itself, without a note.

    `remote`: a client may write it. Others it may not, as other programs that read the same file
    could run, open or connect to what they name.
    """

    meaning: str
    note: str = ""
    silent: bool = False
    remote: bool = False


StarPath = tuple[str, ...]

_ROOT: Mapping[str, str | Inert] = {
    "$schema": Inert("Where an editor finds the JSON schema.", silent=True),
    "meta": Inert(
        "The program that wrote the file last, and its migrations.", silent=True, remote=True
    ),
    "accessGroups": "Groups of people for access lists.",
    "acp": "Agents of other programs, over the Agent Client Protocol.",
    "approvals": "Where approvals are requested.",
    "audio": "Sound.",
    "auth": "Several credentials for one provider.",
    "bindings": "Which agent answers which chat channel.",
    "broadcast": "One message for several agents.",
    "browser": "The browser that agents drive.",
    "canvasHost": "Pages that agents draw.",
    "channels": "Chat channels.",
    "cli": "The appearance of the command line.",
    "commands": "Commands in messages.",
    "cron": "Scheduled runs.",
    "diagnostics": "Diagnostics.",
    "discovery": "Discovery of Gateways in the local network.",
    "hooks": "Runs started by other programs.",
    "media": "Media files.",
    "memory": "Long-term memory.",
    "messages": "How messages are queued and decorated.",
    "nodeHost": "Serving as a paired device.",
    "plugins": "Plugins.",
    "proxy": "A proxy for all outgoing connections.",
    "skills": "Skills.",
    "talk": "Voice.",
    "tools": "Which tools agents may use.",
    "transcripts": "Transcripts of meetings.",
    "ui": "The appearance of user interfaces.",
    "update": "Updating the program.",
    "web": "The web chat channel.",
    "wizard": Inert("The state of the setup dialogue.", silent=True, remote=True),
}
_GATEWAY: Mapping[str, str | Inert] = {
    "allowRealIpFallback": Inert(
        "Read `X-Real-IP` if `X-Forwarded-For` is missing.",
        "a proxy in `gateway.trustedProxies` may always send it",
    ),
    "auth.allowTailscale": "Accept Tailscale's identity headers.",
    "auth.rateLimit.exemptLoopback": Inert(
        "Do not count wrong credentials from this machine.", "they are always counted"
    ),
    "auth.trustedProxy": Inert(
        "The headers of mode `trusted-proxy`.", "that mode is not available"
    ),
    "channelHealthCheckMinutes": "How often chat channels are checked.",
    "channelMaxRestartsPerHour": "How often a chat channel is restarted.",
    "channelStaleEventThresholdMinutes": "When a chat channel counts as stuck.",
    "controlUi.allowExternalEmbedUrls": "External pages embedded in the web page.",
    "controlUi.allowInsecureAuth": Inert(
        "Accept the web page without a device.", "it always needs a device of its own"
    ),
    "controlUi.basePath": "The path that the web page is served under.",
    "controlUi.continuity": "What the web page shows of tasks.",
    "controlUi.dangerouslyAllowHostHeaderOriginFallback": Inert(
        "Take the `Host` header for the allowed origin.",
        "a page of the Gateway's own host and port may always connect",
    ),
    "controlUi.dangerouslyDisableDeviceAuth": Inert(
        "Skip the check of devices.", "devices are always checked"
    ),
    "controlUi.embedSandbox": "The sandbox of embedded pages.",
    "controlUi.enabled": "Serve the web page.",
    "controlUi.publicUrl": "Where the web page is reached.",
    "controlUi.root": "The folder that the web page is served from.",
    "http.endpoints.chatCompletions.images": Inert(
        "Limits for images.", "`maxBodyBytes` limits the whole request"
    ),
    "http.endpoints.chatCompletions.maxImageParts": "How many images a request may have.",
    "http.endpoints.chatCompletions.maxTotalImageBytes": "How large all images may be together.",
    "http.endpoints.responses": "The endpoint `/v1/responses`.",
    "http.securityHeaders": "Headers for browsers.",
    "nodes": "Paired devices.",
    "push": "Push messages for phones.",
    "reload.deferralTimeoutMs": "How long a restart waits for runs.",
    "remote": "How the CLI reaches a Gateway elsewhere.",
    "tailscale": "Serving through Tailscale.",
    "tls.autoGenerate": Inert(
        "Make a self-signed certificate.", "no certificate is ever made here"
    ),
    "tools": "Which tools may be called over HTTP.",
    "webchat": "The web chat.",
}
_DEFAULTS: Mapping[str, str | Inert] = {
    "blockStreamingBreak": "Where blocks end.",
    "blockStreamingChunk": "The size of blocks.",
    "blockStreamingCoalesce": "Joining small blocks.",
    "blockStreamingDefault": "Sending answers in blocks.",
    "bootstrapMaxChars": "How much of a workspace file goes into a prompt.",
    "bootstrapPromptTruncationWarning": "Warn about workspace files that are cut.",
    "bootstrapTotalMaxChars": "How much of all workspace files goes into a prompt.",
    "cliBackends": "Programs that answer instead of a model.",
    "compaction": "Summing up old history.",
    "contextInjection": "When workspace files go into a prompt.",
    "contextPruning": "Thinning out old tool results.",
    "elevatedDefault": "Elevated execution.",
    "embeddedPi": "Settings of the family's own runner.",
    "envelopeElapsed": "Elapsed time in message envelopes.",
    "envelopeTimestamp": "Times in message envelopes.",
    "envelopeTimezone": "The time zone in message envelopes.",
    "fastModeDefault": Inert("Answer fast.", remote=True),
    "heartbeat": "Runs that start by themselves at intervals.",
    "humanDelay": Inert("Pauses between blocks.", remote=True),
    "imageGenerationModel": "The model that draws.",
    "imageMaxDimensionPx": "The largest image.",
    "imageModel": "The model that looks at images.",
    "llm": Inert("Timeouts of model calls.", "`idleTimeoutSeconds` of a provider counts"),
    "mediaMaxMb": "The largest media file.",
    "memorySearch": "Searching an agent's notes.",
    "modelPolicy": "Which models may be chosen.",
    "modelSelectionScope": "How long a chosen model holds.",
    "models.*.agentRuntime": "The program that answers instead of the model.",
    "models.*.streaming": Inert(
        "Request a stream from the provider.", "calls always request a stream"
    ),
    "pdfModel": "The model that reads PDF files.",
    "reasoningDefault": Inert("Show the thoughts of models.", remote=True),
    "repoRoot": "The repository that is named to agents as their place of work.",
    "sandbox": "Running tools in a container.",
    "silentReply": "When no answer is sent.",
    "skills": "The skills that agents may use.",
    "skipOptionalBootstrapFiles": "Do not fill a new workspace with all files.",
    "skipBootstrap": "Do not fill a new workspace with files.",
    "subagents": "Agents started by agents.",
    "thinkingDefault": Inert("How much models think.", remote=True),
    "timeFormat": Inert("How times are written.", remote=True),
    "typingIntervalSeconds": "How often a typing indicator is sent.",
    "typingMode": Inert("When a typing indicator is sent.", remote=True),
    "userTimezone": Inert("The user's time zone.", remote=True),
    "verboseDefault": Inert("How much is shown of tools.", remote=True),
}
_AGENT: Mapping[str, str | Inert] = {
    "agentDir": "Where the reference keeps an agent's own files.",
    "groupChat": "How it behaves in groups.",
    "heartbeat": "Runs that start by themselves at intervals.",
    "humanDelay": Inert("Pauses between blocks.", remote=True),
    "identity.avatar": Inert("The agent's picture.", remote=True),
    "identity.emoji": Inert("The agent's symbol in chat channels.", remote=True),
    "memorySearch": "Searching its notes.",
    "runtime": "The program that answers instead of a model.",
    "sandbox": "Running its tools in a container.",
    "skills": "The skills it may use.",
    "subagents": "Agents that it may start.",
    "thinkingDefault": Inert("How much its model thinks.", remote=True),
    "tools": "The tools it may use.",
}
_OTHERS: Mapping[str, str | Inert] = {
    "agents.ownership": Inert(
        "Who answers where no agent is named.", "`agents.defaults.systemAgent` or the first does"
    ),
    "env.shellEnv": "Taking variables from a login shell.",
    "logging.redactPatterns": Inert(
        "What counts as a secret in the log.", "content is logged only if `content` is true"
    ),
    "logging.redactSensitive": Inert("Hide secrets in the log.", "secrets never reach the log"),
    "models.bedrockDiscovery": "Finding models at AWS.",
    "models.pricing": "Where prices are looked up.",
    "models.providers.*.auth": Inert("The kind of credential.", "`apiKey` and `headers` decide"),
    "models.providers.*.injectNumCtxForOpenAICompat": "Ask Ollama for the whole window.",
    "models.providers.*.models.*.cost.cacheWrite": "What goes into the provider's cache.",
    "models.providers.*.timeoutSeconds": Inert(
        "How long a call may take.", "`idleTimeoutSeconds` limits its silence"
    ),
    "session.agentToAgent": "Agents that talk to one another.",
    "session.dmScope": "Which direct messages share a session.",
    "session.identityLinks": "Names of one person in many channels.",
    "session.mainKey": Inert("The name of the main session.", "it is always `main`"),
    "session.maintenance": Inert(
        "When old sessions are removed.", "`oneOffRetentionDays` says when those without a key are"
    ),
    "session.resetTriggers": "Messages that start a session over.",
    "session.scope": "Who shares a session.",
    "session.threadBindings": "Threads that belong to one agent.",
    "session.typingIntervalSeconds": "How often a typing indicator is sent.",
    "session.typingMode": "When a typing indicator is sent.",
}


def _rows() -> dict[StarPath, Inert]:
    sections = (
        ("", _ROOT),
        ("gateway.", _GATEWAY),
        ("agents.defaults.", _DEFAULTS),
        ("agents.list.*.", _AGENT),
        ("agents.entries.*.", _AGENT),
        ("", _OTHERS),
    )
    return {
        tuple(f"{prefix}{name}".split(".")): row if isinstance(row, Inert) else Inert(row)
        for prefix, rows in sections
        for name, row in rows.items()
    }


INERT: Mapping[StarPath, Inert] = MappingProxyType(_rows())
