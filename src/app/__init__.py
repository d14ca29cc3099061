"""The composition root, the server and the command line."""
