"""Adapters to text encoders."""
