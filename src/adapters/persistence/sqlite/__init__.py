"""SQLite: connections, writer, schema and the handling of damage."""
