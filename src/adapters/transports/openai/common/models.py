"""The names of agents as models."""

DEFAULT_MODEL = "opensoul"
"""The name of the default agent, and the default of `model`."""
