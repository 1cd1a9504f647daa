"""Prompts and manifests."""
