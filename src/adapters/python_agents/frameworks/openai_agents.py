"""Agents of the OpenAI Agents SDK."""


class OpenAiAgents:
    types = frozenset({"agents.agent.Agent"})
