"""Models on this machine, each in a child process.

The face is `client` (LocalModels) and `files` (model files). They are not imported here: a child
imports this package too, and must not load the libraries of the Gateway.
"""
