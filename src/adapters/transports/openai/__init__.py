"""OpenAI's HTTP API: a package for each format, and what they have in `common`."""
