"""What makes an Agent answer."""
