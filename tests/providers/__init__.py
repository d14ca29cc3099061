"""The model clients, against a provider on a real socket."""
