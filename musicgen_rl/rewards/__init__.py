"""What judges sound: encoders of clips, scorers of clip and caption, probes of attributes."""

from musicgen_rl.rewards.encoder import AudioEncoder, load_encoder
from musicgen_rl.rewards.identity import Identity
from musicgen_rl.rewards.probe import Probe, load_probe
from musicgen_rl.rewards.scorer import Scorer, load_scorer

__all__ = [
    "AudioEncoder",
    "Identity",
    "Probe",
    "Scorer",
    "load_encoder",
    "load_probe",
    "load_scorer",
]
