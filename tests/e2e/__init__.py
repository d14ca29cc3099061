"""The real command, a real port, real clients in processes of their own."""
