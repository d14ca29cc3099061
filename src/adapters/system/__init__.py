"""Clock, identifiers, files and logs of this machine."""
