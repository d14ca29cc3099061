"""Clock, identifiers, secrets and logs of this machine."""
