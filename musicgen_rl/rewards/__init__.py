"""Encoders and rewards."""
