"""Decoding: guidance, filters, the loop."""
