"""Transports that speak OpenAI's HTTP API."""
