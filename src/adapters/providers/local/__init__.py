"""Models on this machine, each in a child process.

The public modules are `client` (LocalModels) and `files` (model files). They are not imported here,
because a child process imports this package too and must not load the Gateway's libraries.
"""
