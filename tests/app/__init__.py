"""The whole application, with its real container, in this process."""
