"""The HTTP transports, over real sockets where it matters."""
