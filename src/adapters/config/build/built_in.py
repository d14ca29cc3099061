"""The built-in providers, and the APIs that are not supported, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """`variables`: the first one that is set is the key; if empty, no key is needed."""

    base_url: str
    variables: tuple[str, ...]


BUILT_IN: Mapping[str, BuiltIn] = MappingProxyType(
    {
        "anthropic": BuiltIn("https://api.anthropic.com/v1", ("ANTHROPIC_API_KEY",)),
        "cerebras": BuiltIn("https://api.cerebras.ai/v1", ("CEREBRAS_API_KEY",)),
        "deepseek": BuiltIn("https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",)),
        "google": BuiltIn(
            "https://generativelanguage.googleapis.com/v1beta/openai",
            ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ),
        "groq": BuiltIn("https://api.groq.com/openai/v1", ("GROQ_API_KEY",)),
        "mistral": BuiltIn("https://api.mistral.ai/v1", ("MISTRAL_API_KEY",)),
        "moonshot": BuiltIn("https://api.moonshot.ai/v1", ("MOONSHOT_API_KEY",)),
        "ollama": BuiltIn("http://127.0.0.1:11434/v1", ()),
        "openai": BuiltIn("https://api.openai.com/v1", ("OPENAI_API_KEY",)),
        "openrouter": BuiltIn("https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",)),
        "together": BuiltIn("https://api.together.xyz/v1", ("TOGETHER_API_KEY",)),
        "xai": BuiltIn("https://api.x.ai/v1", ("XAI_API_KEY",)),
        "zai": BuiltIn("https://api.z.ai/api/paas/v4", ("ZAI_API_KEY", "Z_AI_API_KEY")),
    }
)
"""All of them serve `/chat/completions`."""

UNSERVED_APIS: Mapping[str, str] = MappingProxyType(
    {
        "azure-openai-responses": "use `openai-completions`; Azure answers it below `/openai/v1`",
        "bedrock-converse-stream": "put a proxy that answers `openai-completions` before Bedrock",
        "github-copilot": "use a provider that answers `openai-completions`",
        "google-generative-ai": "use `openai-completions`; Google answers it below "
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "google-gemini-cli": "use `openai-completions` with a key, as for the provider `google`",
        "ollama": "use `openai-completions`, which Ollama answers below `/v1`, such as "
        "http://127.0.0.1:11434/v1",
        "openai-codex-responses": "use the provider `openai` with a key",
        "openai-responses": "use `openai-completions`, which the same providers mostly answer",
    }
)
"""APIs without a model client, and what to do instead."""
