"""Model clients, one for each wire API."""
