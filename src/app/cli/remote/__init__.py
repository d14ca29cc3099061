"""Calls from the command line to a running Gateway, and turns without one."""
