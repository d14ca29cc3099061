"""State, errors, options and lazy loading, shared by all commands."""
