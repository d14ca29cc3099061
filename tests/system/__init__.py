"""What the process has around it: files, locks, logs, identifiers."""
