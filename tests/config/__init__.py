"""What the Gateway makes of configuration files."""
