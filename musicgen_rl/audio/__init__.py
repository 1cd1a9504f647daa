"""Waveforms, files and loudness."""
