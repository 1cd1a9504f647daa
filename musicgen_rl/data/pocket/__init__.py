"""The corpus of the pocket model."""
