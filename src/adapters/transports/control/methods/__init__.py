"""The handlers of the control protocol's methods, one module per family."""
