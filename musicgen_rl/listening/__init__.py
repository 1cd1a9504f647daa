"""Listening studies with people."""
