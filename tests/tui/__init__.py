"""The chat in the terminal, driven as a person would."""
