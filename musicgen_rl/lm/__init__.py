"""The audio-token language model."""
