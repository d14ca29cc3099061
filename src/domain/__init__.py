"""The rules of the Gateway in plain Python: no framework, no socket, no file."""
