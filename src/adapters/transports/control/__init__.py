"""The control plane: agents, runs and the Gateway itself over a WebSocket."""
