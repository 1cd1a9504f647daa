"""Text to music with a dial between quality and diversity."""

from musicgen_rl import _torchaudio

_torchaudio.install()  # before anything imports torchaudio, transformers, peft or encodec
