"""Configuration files become domain settings."""
