"""The frame-level codec: everything learnt runs once a frame, so it is cheap on a CPU.

log-mel and log-pitch bands -> ConvNeXt -> residual VQ -> ConvNeXt -> two sounding heads, summed:

- tones: amplitudes of fixed oscillators, a fifth of a semitone apart, every 20 ms;
- noise: amplitudes of bands of fixed noise, every 5 ms.

Why not the magnitude and phase of an inverse STFT, as in Vocos (arXiv:2306.00814), whose trunk this
is: a network that sees only codes answers a steady sound with the same frame over and over, and
equal frames 1/50 s apart sound multiples of 50 Hz and nothing else; measured, all pitches came out
as that comb. Here oscillators and noise run on by themselves, in the clip's own time, and equal
frames sound a steady tone of its own pitch, or steady noise. They repeat after ten seconds;
`decode_from` tells a part of a clip where in it the part begins.

A frame longer than 20 ms is cut into parts of about that: heard one by one, coded as one vector,
sounded one by one.
"""

import math

import torch
from torch import Tensor, nn

from musicgen_rl.codec.quantizer import ResidualQuantizer
from musicgen_rl.codec.spectral import (
    PERIOD,
    SEMITONE,
    TONE_PERIOD,
    hann,
    log_bands,
    mel_filters,
    overlap_add_halves,
    pitch_filters,
    placed_like,
    tone_steps,
)
from musicgen_rl.config import FrameCodecConfig
from musicgen_rl.errors import ConfigError, InputError

PITCHES = 168
"""Half-semitone bands the encoder also hears, from 32.7 Hz (C1) up seven octaves."""
PITCH_WINDOW_S = 0.256
PITCH_LOW_HZ = 440.0 * SEMITONE**-45
FEATURE_MEAN = -6.0
FEATURE_SPREAD = 2.5
TONE_HIGH_HZ = 10000.0
START_LEVEL = -6.5
MAX_LEVEL = 1.0
"""Natural logarithms of an amplitude: before training, and at most."""
EMPHASIS = 0.1
"""How much more than they do latents are taken to change from frame to frame when they are coded:
codes blur changes, and attacks with them (docs/experiments/2026-11-30-search.md)."""
NOISE_BANDS = 48
NOISE_STEPS = 4
"""Noise levels a part: attacks are placed to 5 ms."""
PART_S = 0.02


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over frames, then a pointwise expansion, residual.

    Source: arXiv:2201.03545; one-dimensional as in arXiv:2306.00814.
    """

    def __init__(self, width: int, kernel_size: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(
            width, width, kernel_size, padding=kernel_size // 2, groups=width
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Transform frames [B, T, width]."""
        y = self.depthwise(x.mT).mT
        y = self.contract(nn.functional.gelu(self.expand(self.norm(y))))
        out: Tensor = x + self.scale * y
        return out


class FrameStack(nn.Module):
    """A convolution to the stack's width, ConvNeXt blocks, a norm."""

    def __init__(self, inputs: int, width: int, layers: int, kernel_size: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(inputs, width, kernel_size, padding=kernel_size // 2)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        blocks = [ConvNeXtBlock(width, kernel_size, 1.0 / layers) for _ in range(layers)]
        self.layers = nn.ModuleList(blocks)
        self.final_norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Transform frames [B, T, inputs] to [B, T, width]."""
        x = self.norm(self.embed(x.mT).mT)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.final_norm(x)
        return out


class FrameCodec(nn.Module):
    """The frame-level codec; implements the `Codec` protocol for mono audio."""

    tone_even: Tensor
    tone_odd: Tensor
    tone_turns: Tensor
    noise: Tensor
    noise_bands: Tensor

    def __init__(self, config: FrameCodecConfig) -> None:
        super().__init__()
        parts = max(1, round(config.hop_length / config.sample_rate / PART_S))
        if config.n_fft % 2 or config.hop_length % (2 * NOISE_STEPS * parts):
            raise ConfigError(
                f"n_fft {config.n_fft} must be even and hop_length {config.hop_length} a multiple "
                f"of {2 * NOISE_STEPS * parts}"
            )
        self.parts = parts
        """Parts of a frame."""
        self.part_length = config.hop_length // parts
        """Samples of a part."""
        self.config = config
        width = config.decoder_width
        heard = parts * (config.n_mels + PITCHES)
        self.encoder = FrameStack(
            heard, config.encoder_width, config.encoder_layers, config.kernel_size
        )
        self.to_latent = nn.Linear(config.encoder_width, config.codebook_dim)
        self.hear = nn.Linear(heard, config.codebook_dim)
        self.quantizer = ResidualQuantizer(
            config.num_codebooks, config.codebook_size, config.codebook_dim
        )
        self.decoder = FrameStack(
            config.codebook_dim, width, config.decoder_layers, config.kernel_size
        )
        high_hz = min(TONE_HIGH_HZ, 0.45 * config.sample_rate)
        steps = tone_steps(config.sample_rate, self.part_length, high_hz)
        self.tone_head = nn.Linear(width, parts * len(steps))
        self.noise_head = nn.Linear(width, parts * NOISE_STEPS * NOISE_BANDS)
        self.sound = nn.Linear(
            config.codebook_dim, self.tone_head.out_features + self.noise_head.out_features
        )
        for linear in (self.tone_head, self.noise_head, self.to_latent):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.constant_(self.sound.bias, START_LEVEL)
        # The straight paths are set before training (training/codec_start.py) and stay.
        self.hear.requires_grad_(False)
        self.sound.requires_grad_(False)
        self._set_tones(steps)
        self._set_noise()

    def _set_tones(self, steps: Tensor) -> None:
        """Lay out the oscillators' windowed waves and their phase at each part.

        A wave around the middle of its part is a share of cos(wt), the same before and after the
        middle, and a share of sin(wt), there the opposite: half of each is enough.
        """
        hop = self.part_length
        fixed = torch.Generator().manual_seed(1)
        phase = torch.rand(len(steps), generator=fixed, dtype=torch.float64) * 2.0 * math.pi
        time = torch.arange(hop, dtype=torch.float64)  # from the middle on
        angle = steps[:, None] * (2.0 * math.pi / (hop * TONE_PERIOD)) * time
        window = hann(2 * hop)[hop:].double()
        self.register_buffer("tone_even", (angle.cos() * window).float(), persistent=False)
        self.register_buffer("tone_odd", (angle.sin() * window).float(), persistent=False)
        parts = torch.arange(TONE_PERIOD)[:, None]
        turn = (parts * steps % TONE_PERIOD).double() * (2.0 * math.pi / TONE_PERIOD) + phase
        turns = torch.stack([turn.cos(), turn.sin()]).float()
        self.register_buffer("tone_turns", turns, persistent=False)  # [2, period, N]
        unit = self.config.sample_rate / (hop * TONE_PERIOD)
        self.tone_hz = steps.float() * unit
        """Pitch of each oscillator, [N]."""

    def _set_noise(self) -> None:
        """Draw the noise once and for all: random phases of a short STFT."""
        window = 2 * self.part_length // NOISE_STEPS
        shape = (PERIOD, NOISE_STEPS, window // 2 + 1)
        phase = torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 2.0 * math.pi
        scale = window / 4.0  # a band at level 1 is about as loud as a sine of amplitude 1
        self.register_buffer("noise", torch.polar(torch.tensor(scale), phase), persistent=False)
        bands = mel_filters(NOISE_BANDS, window, self.config.sample_rate)
        bands = bands / bands.sum(1, keepdim=True).clamp(min=1e-3)
        self.register_buffer("noise_bands", bands.T.contiguous(), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where it lies: samples and codes are given there, and come back there."""
        return self.quantizer.entries.device

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.config.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples of one frame."""
        return self.config.hop_length

    @property
    def num_codebooks(self) -> int:
        """K."""
        return self.config.num_codebooks

    @property
    def codebook_size(self) -> int:
        """V."""
        return self.config.codebook_size

    @property
    def audio_channels(self) -> int:
        """Mono."""
        return 1

    @property
    def context_frames(self) -> tuple[int, int]:
        """Frames (before, after) that reach a frame of audio: convolutions and overlap."""
        convolutions = (self.config.decoder_layers + 1) * (self.config.kernel_size // 2)
        return convolutions + 1, convolutions + 1

    def features(self, samples: Tensor) -> Tensor:
        """Hear samples [B, M] as log bands [B, T, parts * (n_mels + 168)], of about unit spread."""
        c = self.config
        window = 2 * round(PITCH_WINDOW_S * c.sample_rate / 2)
        mel = mel_filters(c.n_mels, c.n_fft, c.sample_rate)
        pitch = pitch_filters(PITCHES, PITCH_LOW_HZ, 2, window, c.sample_rate)
        whole = nn.functional.pad(samples, (0, -samples.shape[-1] % c.hop_length))
        heard = [
            log_bands(whole, mel, c.n_fft, self.part_length),
            log_bands(whole, pitch, window, self.part_length),
        ]
        bands = (torch.cat(heard, -1) - FEATURE_MEAN) / FEATURE_SPREAD  # [B, T * parts, bands]
        return bands.reshape(len(samples), -1, self.parts * bands.shape[-1])

    def latents(self, samples: Tensor) -> Tensor:
        """Encode samples [B, M] to latents before quantization, [B, T, D]."""
        heard = self.features(samples)
        out: Tensor = self.hear(heard) + self.to_latent(self.encoder(heard))
        return out

    def synthesize(self, latents: Tensor, start_frames: Tensor) -> Tensor:
        """Sound latents.

        Args:
            latents: [B, T, D].
            start_frames: place of each row's first frame in its clip, [B]; [1] where it is one
                for all rows.

        Returns:
            Samples, [B, T * hop_length].
        """
        hidden = self.decoder(latents)
        tone_path, noise_path = self._straight_paths()
        tones = _amplitudes(self.tone_head, hidden, tone_path, latents)  # [B, T, parts * N]
        noises = _amplitudes(self.noise_head, hidden, noise_path, latents)
        B, parts = len(latents), latents.shape[1] * self.parts
        part = torch.arange(parts, device=latents.device)
        place = (start_frames[:, None].to(latents.device) * self.parts + part) % PERIOD
        return self._tones(tones.view(B, parts, -1), place) + self._noises(
            noises.view(B, parts, -1), place
        )

    def _straight_paths(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Split `sound` into weight and bias of tones and of noise."""
        sizes = [self.tone_head.out_features, self.noise_head.out_features]
        weights = torch.split(self.sound.weight, sizes)
        biases = torch.split(self.sound.bias, sizes)
        return (weights[0], biases[0]), (weights[1], biases[1])

    def _tones(self, amplitudes: Tensor, place: Tensor) -> Tensor:
        """Sound oscillators of amplitudes [B, P, N] in parts numbered [B, P] or [1, P]."""
        cos, sin = self.tone_turns[:, place % TONE_PERIOD]  # [B, P, N] each
        even = (amplitudes * cos) @ self.tone_even  # [B, P, hop], from each part's middle on
        odd = (amplitudes * sin) @ self.tone_odd
        return overlap_add_halves((even + odd)[..., 1:].flip(-1), even - odd)

    def _noises(self, levels: Tensor, place: Tensor) -> Tensor:
        """Sound noise of levels [B, P, steps * bands] in parts numbered [B, P] or [1, P]."""
        B, P, _ = levels.shape
        bins = levels.view(B, P, NOISE_STEPS, NOISE_BANDS) @ self.noise_bands
        spectrum = (bins * self.noise[place]).flatten(1, 2)  # [B, P * steps, bins]
        hop = self.part_length // NOISE_STEPS
        frames = torch.fft.irfft(spectrum, n=2 * hop, dim=-1) * placed_like(hann(2 * hop), levels)
        return overlap_add_halves(frames[..., :hop], frames[..., hop:])

    @torch.inference_mode()
    def encode(self, samples: Tensor) -> Tensor:
        """Encode samples [B, 1, M] in [-1, 1] to codes [B, K, T], T = ceil(M / hop_length).

        Raises:
            InputError: not mono, empty, or not finite.
        """
        if samples.dim() != 3 or samples.shape[1] != 1 or samples.shape[2] == 0:
            raise InputError(f"this codec encodes samples [B, 1, M], got {tuple(samples.shape)}")
        if not bool(torch.isfinite(samples).all()):
            raise InputError("samples hold nan or infinite values: check the file they came from")
        return self.quantizer.encode(emphasize_changes(self.latents(samples[:, 0].float())))

    def decode(self, codes: Tensor) -> Tensor:
        """Decode the codes of a whole clip, [B, K, T], to samples [B, 1, T * hop_length]."""
        return self.decode_from(codes, 0)

    @torch.inference_mode()
    def decode_from(self, codes: Tensor, start_frame: int) -> Tensor:
        """Decode a part of a clip.

        Args:
            codes: [B, K, T], values in [0, V).
            start_frame: how many frames of the clip come before the first of these.

        Returns:
            Samples [B, 1, T * hop_length], equal to the whole clip's further than
            `context_frames` from either cut.

        Raises:
            InputError: another number of codebooks, or values outside of them.
        """
        if codes.dim() != 3 or codes.shape[1] != self.num_codebooks:
            raise InputError(
                f"this codec decodes codes [B, {self.num_codebooks}, T], got {tuple(codes.shape)}"
            )
        if codes.shape[2] == 0:
            return torch.zeros(codes.shape[0], 1, 0, device=codes.device)
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.codebook_size:
            raise InputError(f"codes must lie in [0, {self.codebook_size}), got {low} to {high}")
        start = torch.tensor([start_frame], device=codes.device)
        return self.synthesize(self.quantizer.decode(codes), start)[:, None]


def emphasize_changes(latents: Tensor, share: float = EMPHASIS) -> Tensor:
    """Move latents away from their neighbours in time.

    Args:
        latents: [B, T, D].
        share: how much further a frame is moved, of its way from the mean of its two neighbours.

    Returns:
        [B, T, D].
    """
    before = torch.cat([latents[:, :1], latents[:, :-1]], 1)
    after = torch.cat([latents[:, 1:], latents[:, -1:]], 1)
    return latents + share * (latents - 0.5 * (before + after))


def _amplitudes(
    head: nn.Linear, hidden: Tensor, straight: tuple[Tensor, Tensor], latents: Tensor
) -> Tensor:
    """Add a head's logarithms of amplitudes to those of the straight path, and leave the log.

    Args:
        head: over `hidden`.
        hidden: [B, T, width].
        straight: weight [outputs, D] and bias [outputs] over `latents`.
        latents: [B, T, D].

    Returns:
        [B, T, outputs], at most e ** MAX_LEVEL.
    """
    weight, bias = straight
    learnt = nn.functional.linear(hidden, head.weight, head.bias + bias)
    both = torch.addmm(learnt.flatten(0, 1), latents.flatten(0, 1), weight.T)
    return both.clamp(max=MAX_LEVEL).exp().view(learnt.shape)
