"""The WebSocket below its messages, over real sockets: frames, limits, endings."""
