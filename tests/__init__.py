"""Tests: sentences about the Gateway."""
