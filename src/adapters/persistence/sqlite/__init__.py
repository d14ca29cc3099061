"""SQLite: connections, writer, schema and the treatment of damage."""
