"""Merging of weights."""
