"""The checks of `opensoul doctor`."""
