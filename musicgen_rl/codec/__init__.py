"""Adapters to audio codecs."""
