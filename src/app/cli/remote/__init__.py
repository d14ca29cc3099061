"""Calls to a running Gateway, and turns without one."""
