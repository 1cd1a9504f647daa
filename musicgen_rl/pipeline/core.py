"""The pipeline: a model folder in, clips out."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.loudness import LoudnessConfig, level
from musicgen_rl.audio.stream_level import StreamLeveller
from musicgen_rl.checkpoint import ModelInfo, find_model, load_lm, model_hash, read_info
from musicgen_rl.codec.base import Codec
from musicgen_rl.codec.streaming import StreamingDecoder
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import MemoryLimitError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline import devices
from musicgen_rl.pipeline.dial import Dial, has_endpoints, require_endpoints, sampling_at
from musicgen_rl.pipeline.holds import Holds, require_holds
from musicgen_rl.pipeline.parts import codec_bytes, load_codec_of, load_text_encoder
from musicgen_rl.pipeline.provenance import describe_codes, describe_model
from musicgen_rl.pipeline.request import (
    GenerationConfig,
    check_clips,
    check_prompts,
    draw_seed,
)
from musicgen_rl.pipeline.runners import Prepared, RunnerPool, copy_prepared, prepare_model
from musicgen_rl.pipeline.source import Source
from musicgen_rl.pipeline.takes import best_takes, check_takes, load_chooser
from musicgen_rl.pipeline.work import Batch, Chunk, Taker
from musicgen_rl.rewards import Scorer
from musicgen_rl.sampling.decode import DecodeStream, MakeRunner
from musicgen_rl.sampling.randomness import clip_seed
from musicgen_rl.sampling.runner import pad_condition
from musicgen_rl.text.base import TextEncoder

Stop = Callable[[], bool]
Progress = Callable[[int, int], None]

TEXT_BUCKET = 32  # text states are padded to a multiple, so that company rarely changes shapes
CHUNK_FRAMES = 1000  # decoded to sound at once: 20 s, whose context costs 5 %
_STREAM_FRAMES = 10  # decoded at a time while streaming: 0.2 s
_CPU_BATCH, _GPU_BATCH = 16, 64


class Pipeline:
    """A loaded model: text in, clips out.

    Make one with `Pipeline.load`. One pipeline may serve one caller at a time.
    """

    def __init__(
        self,
        info: ModelInfo,
        model: MusicLM,
        codec: Codec,
        text: TextEncoder,
        *,
        device: torch.device,
        dtype: str,
    ) -> None:
        self.info, self.codec, self.text = info, codec, text
        self.device, self.dtype = device, dtype
        self.model_sha256 = model_hash(info)
        self.holds = Holds(info, text)
        self._run_on(prepare_model(model, device, dtype))

    @classmethod
    def load(
        cls, model: str | Path = "pocket", *, device: str = "auto", dtype: str = "auto"
    ) -> "Pipeline":
        """Load a model.

        Args:
            model: "pocket", a folder, or a hub id such as "facebook/musicgen-small".
            device: auto, cpu or cuda.
            dtype: auto, fp32, bf16 or (on a CPU) int8.

        Raises:
            ConfigError: no such device or dtype here.
            ModelError: the model is not there, broken, or of a kind that does not run.
            MemoryLimitError: it does not fit.
        """
        where = devices.choose_device(device)
        precision = devices.choose_dtype(dtype, where)
        info = read_info(find_model(model))
        way_out = "close other programs, or use a smaller model"
        devices.require_memory(
            devices.load_bytes(info.lm, precision), torch.device("cpu"), f"loading {info.name}",
            way_out,
        )  # fmt: skip
        with devices.memory_errors_named(f"loading {info.name}", way_out):
            lm = load_lm(info)
            codec, text = load_codec_of(info, where), load_text_encoder(info, where)
            return cls(info, lm, codec, text, device=where, dtype=precision)

    def twin(self) -> "Pipeline":
        """Make a second pipeline of this model for another thread.

        It shares all that is only read: codec, text encoder and the ends of the dial. Weights that
        a dial moves are its own; a model without a dial has none that move, and shares them too.
        """
        other = copy.copy(self)
        if self.has_endpoints:
            other._run_on(copy_prepared(self._runners.model), self._dial)
        else:
            other._run_on(self._runners.model, self._dial)
        return other

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.codec.sample_rate

    @property
    def has_endpoints(self) -> bool:
        """Whether the model has the two ends of the dial."""
        return self._dial.available

    @cached_property
    def chooser(self) -> Scorer | None:
        """Hears which take answers its words best; None where the model has nothing that does."""
        return load_chooser(self.info, self.device)

    def move(
        self, diversity: float | None, merge_method: str = "lerp", merge_strength: float = 0.5
    ) -> float:
        """Bring the weights to a position of the dial; `chunks` does so by itself.

        Args:
            diversity: 0 quality, 1 diversity, None the base.
            merge_method: lerp, slerp or liti.
            merge_strength: of liti.

        Returns:
            Seconds it took.

        Raises:
            ConfigError: the model has no dial, or a value is out of range.
            ModelError: the ends cannot be used.
        """
        with self._weights:
            return self._dial.move(diversity, merge_method, merge_strength)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        duration_s: float = 10.0,
        seed: int | None = None,
        clips_per_prompt: int = 1,
        takes: int = 1,
        tempo_bpm: float | None = None,
        steady: bool = False,
        key: str | None = None,
        chords: str | None = None,
        beats_per_bar: int | None = None,
        returning: float = 1.0,
        continue_from: Clip | str | Path | None = None,
        loudness: LoudnessConfig | None = None,
        diversity: float | None = None,
        merge_method: str = "lerp",
        stop: Stop | None = None,
        progress: Progress | None = None,
        **sampling: Any,
    ) -> list[Clip]:
        """Generate clips.

        Args:
            prompts: one text, or several.
            duration_s: seconds of new music, exact to the sample.
            seed: same seed, same music; a random one is drawn (and kept in the settings) if None.
            clips_per_prompt: variations of each prompt.
            takes: play each clip so often and keep the one that answers its words best, of those at
                the tempo that is asked for; by the tempo alone where the model has no scorer.
            tempo_bpm: tempo to hold, in beats a minute; that of the prompt ("124 bpm") where None
                and the model can, none at 0.
            steady: hold one that goes with the words where they name none.
            key: to hold, such as "D minor"; that of the prompt ("in D minor") where None and the
                model can, none where "none".
            chords: to hold, a bar each, such as "Am F C G"; those of the prompt ("chords Am F")
                where None and the model can, some that go with the words where "auto".
            beats_per_bar: of the chords' bars; three for a waltz and four for others where None.
            returning: how strongly what was played over the chords before comes back; 0 not at all.
            continue_from: a clip or audio file to go on from; the result starts with it.
            loudness: how loud; EBU R 128 levelling by default.
            diversity: where the dial stands, 0 quality to 1 diversity; None plays the base.
            merge_method: lerp, slerp or liti.
            stop: asked at every step; when it says True, what is there so far is returned, the
                clips cut short with `complete` False in their settings.
            progress: called at every step with frames made and frames to make.
            sampling: guidance_scale, guidance_s, temperature, top_k, top_p, negative_prompt; the
                model's own defaults where not given, on the dial those of `dial.sampling_at`.

        Returns:
            Clips in the order of the prompts, variations of one prompt together.

        Raises:
            InputError: an empty or absurd prompt, a file that is not audio, takes of a prompt
                without a tempo by a model without a scorer.
            ConfigError: an option out of range.
            MemoryLimitError: it does not fit.
        """
        request = GenerationConfig(
            duration_s=duration_s,
            seed=seed,
            clips_per_prompt=clips_per_prompt,
            takes=takes,
            tempo_bpm=tempo_bpm,
            steady=steady,
            key=key,
            chords=chords,
            beats_per_bar=beats_per_bar,
            returning=returning,
            loudness=LoudnessConfig() if loudness is None else loudness,
            diversity=diversity,
            merge_method=merge_method,
        )
        return self.run(
            check_prompts(prompts),
            request,
            sampling_at(self.info, diversity, holds=request.holds, **sampling),
            source=self.read_source(continue_from),
            stop=stop,
            progress=progress,
        )

    def run(
        self,
        prompts: list[str],
        request: GenerationConfig,
        sampling: SamplingConfig,
        *,
        source: Source | None = None,
        stop: Stop | None = None,
        progress: Progress | None = None,
    ) -> list[Clip]:
        """Generate clips from checked parts; arguments as for `generate`."""
        request = replace(request, seed=draw_seed() if request.seed is None else request.seed)
        if request.takes > 1:
            check_takes(self.info, prompts, request)
            return list(
                best_takes(
                    self, prompts, request, sampling, source=source, stop=stop, progress=progress
                )
            )
        check_clips(len(prompts), request.clips_per_prompt)
        queue = self.plan(prompts, request, sampling)
        frames = self.frames_of(request)
        total = sum(len(b.prompts) for b in queue) * frames
        clips: list[Clip] = []
        made = steps = rows = 0

        def ask() -> bool:
            nonlocal steps
            steps += 1
            if progress is not None:  # a step decides about one frame of every row
                progress(made + min(steps, frames) * rows, total)
            return stop is not None and stop()

        while queue and not (stop is not None and stop()):
            batch = queue.pop(0)
            steps, rows = 0, len(batch.prompts)
            parts: list[Chunk] = []
            try:
                parts.extend(self.chunks(batch, request, sampling, source=source, stop=ask))
            except (MemoryError, RuntimeError) as error:
                queue = self.halve(batch, error) + queue
                continue
            made += sum(p.codes.shape[-1] for p in parts) * rows
            if progress is not None:
                progress(made, total)
            clips += self._clips(batch, parts, request, sampling, source)
        return clips

    def stream(
        self,
        prompt: str,
        *,
        duration_s: float = 10.0,
        seed: int | None = None,
        tempo_bpm: float | None = None,
        steady: bool = False,
        key: str | None = None,
        chords: str | None = None,
        beats_per_bar: int | None = None,
        returning: float = 1.0,
        continue_from: Clip | str | Path | None = None,
        loudness: LoudnessConfig | None = None,
        diversity: float | None = None,
        merge_method: str = "lerp",
        stop: Stop | None = None,
        **sampling: Any,
    ) -> Iterator[Clip]:
        """Generate one clip and hand it out while it is made.

        Args:
            prompt: one text; the others as for `generate`. With `continue_from` only the new
                music is handed out.

        Returns:
            Parts in order, together exactly as long as asked for. Their loudness settles within
            the first second, since the whole is not known yet. The last one's settings are
            complete.

        Raises:
            As `generate`, before the first part.
        """
        request = GenerationConfig(
            duration_s=duration_s,
            seed=draw_seed() if seed is None else seed,
            tempo_bpm=tempo_bpm,
            steady=steady,
            key=key,
            chords=chords,
            beats_per_bar=beats_per_bar,
            returning=returning,
            loudness=LoudnessConfig() if loudness is None else loudness,
            diversity=diversity,
            merge_method=merge_method,
        )
        chosen = sampling_at(self.info, diversity, holds=request.holds, **sampling)
        batch = self.plan(check_prompts(prompt), request, chosen)[0]
        source = self.read_source(continue_from)
        return self._stream(batch, request, chosen, source, stop)

    def plan(
        self, prompts: list[str], request: GenerationConfig, sampling: SamplingConfig
    ) -> list[Batch]:
        """Group clips into batches that fit.

        Raises:
            ConfigError: a position of the dial, a tempo, a key or chords, and the model has none.
            MemoryLimitError: not even one clip fits.
        """
        require_endpoints(self.info, request.diversity)
        require_holds(self.info, request)
        first, count = request.first_index, request.clips_per_prompt
        jobs = [(p, i) for p in prompts for i in range(first, first + count)]
        size = request.max_batch or (_GPU_BATCH if self.device.type == "cuda" else _CPU_BATCH)
        free, kept = devices.available_bytes(self.device), self._runners.kept_bytes
        one = self._clip_bytes(request, sampling)
        if free is not None:
            devices.require_memory(one, self.device, "one clip", "make it shorter", kept)
            size = max(1, min(size, int((free + kept) * 0.8) // one))
        return [
            Batch([p for p, _ in jobs[i : i + size]], [k for _, k in jobs[i : i + size]])
            for i in range(0, len(jobs), size)
        ]

    def frames_of(self, request: GenerationConfig) -> int:
        """Count the frames that cover the length asked for."""
        return -(-round(request.duration_s * self.sample_rate) // self.codec.hop_length)

    def read_source(self, source: Clip | str | Path | None) -> Source | None:
        """Read and encode what a clip is to go on from.

        Raises:
            AudioFileError: it is not audio, or too short to go on from.
        """
        if source is None:
            return None
        return Source.read(source, self.codec, self.device, self.info.window.keep_frames)

    def chunks(
        self,
        batch: Batch,
        request: GenerationConfig,
        sampling: SamplingConfig,
        *,
        source: Source | None = None,
        stop: Stop | None = None,
        frames: int | Sequence[int] = CHUNK_FRAMES,
    ) -> Iterator[Chunk]:
        """Decode a batch part by part: codes and the samples that are final by then.

        Args:
            batch: from `plan`.
            request: its seed must be set.
            sampling: how tokens are drawn.
            source: what all clips go on from.
            stop: asked at every step.
            frames: codes of one part; of several numbers each is for one part, the last for all
                that follow, so that the first sound can come early.

        Returns:
            Parts, in order; fewer than asked for after a stop. With a source, samples start with
            all of it.
        """
        assert request.seed is not None
        B = len(batch.prompts)
        stands = (request.diversity, request.merge_method, request.merge_strength)
        self.move(*stands)
        teller, recall = self.holds.teller(batch, request, source)
        with self._runners.lease() as make_runner:
            stream = DecodeStream(
                self.info.lm,
                make_runner,
                self.condition(self.holds.words(batch, request, source), batch.text_length),
                sampling,
                seeds=[
                    clip_seed(seed, i)
                    for seed, i in zip(batch.seeds_or(request.seed), batch.indices, strict=True)
                ],
                window=self.info.window,
                guided_frames=sampling.guided_frames(self.info.frame_rate),
                num_frames=self.frames_of(request),
                prompt=None if source is None else source.codes.expand(B, -1, -1),
                null=self.negative_condition(sampling, B),
                teller=teller,
                recall=recall,
                returning=request.returning,
            )
            decoder = StreamingDecoder(self.codec)
            take = Taker(round(request.duration_s * self.sample_rate))
            if source is not None:
                before = self.codec.context_frames[0]
                take = Taker(take.missing + source.fade, source.skipped_samples(before))
                context = source.context(before).expand(B, -1, -1)
                take.push(decoder.push(context.to(self.device)))
            sizes = [frames] if isinstance(frames, int) else list(frames)
            held = np.zeros((B, self.codec.audio_channels, 0), dtype=np.float32)
            last = joined = False
            while not last:
                size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
                with self._weights:
                    self.move(*stands)  # another call may have moved them since the last part
                    codes = stream.advance(size, stop)
                last = codes.shape[-1] < size or stream.finished
                play = decoder.finish if last else decoder.push
                take.push(play(codes.to(self.device)))
                samples = take.ready()
                if source is not None and not joined:
                    held = np.concatenate([held, samples], axis=-1)
                    joined = last or held.shape[-1] >= source.fade
                    samples = np.stack([source.join(h) for h in held]) if joined else held[..., :0]
                yield Chunk(codes.numpy().astype(np.int64), samples, last)

    def settings(
        self,
        batch: Batch,
        position: int,
        request: GenerationConfig,
        sampling: SamplingConfig,
        source: Source | None,
    ) -> dict[str, Any]:
        """Collect all that decides the sound of one clip of a batch, JSON-able."""
        weights = self._dial.describe(
            request.diversity, request.merge_method, request.merge_strength
        )
        return (
            describe_model(self.info, self.model_sha256)
            | weights
            | self.holds.describe(batch, request, source)[position]
            | {
                "prompt": batch.prompts[position],
                "seed": batch.seeds[position] if batch.seeds else request.seed,
                "index": batch.indices[position],
                "duration_s": request.duration_s,
                "sampling": asdict(sampling),
                "loudness": asdict(request.loudness),
                "continued_from": None if source is None else source.described(),
                "device": str(self.device),
                "dtype": self.dtype,
                "batch": {
                    "clips": len(batch.prompts),
                    "position": position,
                    "text_length": self.condition(
                        self.holds.words(batch, request, source), batch.text_length
                    ).mask.shape[1],
                },
            }
        )

    def lease_runners(self) -> AbstractContextManager[MakeRunner]:
        """Lend what makes runners, for a loop of one's own."""
        return self._runners.lease()

    def clear_runners(self) -> None:
        """Give back the memory of runners that wait for the next clip."""
        self._runners.clear()

    def _run_on(self, prepared: Prepared, dial: Dial | None = None) -> None:
        """Take the model that runs, and a dial for it; an older dial shares its ends."""
        self._weights = RLock() if has_endpoints(self.info.folder) else nullcontext()
        self._runners = RunnerPool(prepared, self.device, self.dtype)
        self._dial = Dial(self.info, prepared) if dial is None else dial.of(prepared)

    def _stream(
        self,
        batch: Batch,
        request: GenerationConfig,
        sampling: SamplingConfig,
        source: Source | None,
        stop: Stop | None,
    ) -> Iterator[Clip]:
        leveller = StreamLeveller(self.sample_rate, self.codec.audio_channels, request.loudness)
        settings = self.settings(batch, 0, request, sampling, source)
        codes: list[NDArray[np.int64]] = []
        known = 0 if source is None else source.samples.shape[1]
        parts = self.chunks(
            batch, request, sampling, source=source, stop=stop, frames=_STREAM_FRAMES
        )
        for part in parts:
            codes.append(part.codes[0])
            samples = part.samples[0, :, known:]
            known -= part.samples.shape[-1] - samples.shape[-1]
            if part.last:
                settings = settings | describe_codes(
                    np.concatenate(codes, axis=-1), self.frames_of(request)
                )
            if samples.shape[-1]:
                yield Clip(leveller.push(samples), self.sample_rate, settings)

    def _clips(
        self,
        batch: Batch,
        parts: list[Chunk],
        request: GenerationConfig,
        sampling: SamplingConfig,
        source: Source | None,
    ) -> list[Clip]:
        """Join the parts of a batch into levelled clips; none where a stop left no sound."""
        codes = np.concatenate([p.codes for p in parts], axis=-1)  # [B, K, T]
        samples = np.concatenate([p.samples for p in parts], axis=-1)  # [B, C, M]
        parts.clear()
        if not samples.shape[-1]:
            return []
        clips = []
        for b in range(len(samples)):
            settings = self.settings(batch, b, request, sampling, source)
            settings |= describe_codes(codes[b], self.frames_of(request))
            sound = level(samples[b], self.sample_rate, request.loudness)
            clips.append(Clip(sound, self.sample_rate, settings, codes[b]))
        return clips

    def condition(self, prompts: list[str], text_length: int = 0) -> Condition:
        """Encode prompts and pad their states to a multiple of TEXT_BUCKET."""
        condition = self.text.encode(prompts)
        length = max(condition.mask.shape[1], text_length)
        return pad_condition(condition, -(-length // TEXT_BUCKET) * TEXT_BUCKET)

    def negative_condition(self, sampling: SamplingConfig, count: int) -> Condition | None:
        """Encode the negative prompt for every clip, if there is one."""
        if not sampling.negative_prompt:
            return None
        return self.condition([sampling.negative_prompt] * count)

    def _clip_bytes(self, request: GenerationConfig, sampling: SamplingConfig) -> int:
        """Estimate what one clip needs: its rows of the cache, its sound and working space.

        The codec decodes all clips of a batch at once: row by row, sound would differ in last bits.
        """
        rows = sampling.rows
        lm = self.info.lm
        steps = min(self.frames_of(request), self.info.window.frames) + lm.num_codebooks
        cache = devices.cache_bytes(lm, rows, steps, self.dtype, self.device)
        sound = round(request.duration_s * self.sample_rate) * self.codec.audio_channels * 4
        at_once = min(self.frames_of(request), CHUNK_FRAMES) + sum(self.codec.context_frames)
        if self.holds:
            cache += rows * steps * lm.num_layers * lm.hidden_size * 4
        return cache + 4 * sound + codec_bytes(self.codec, at_once) + 20_000_000

    def halve(self, batch: Batch, error: BaseException) -> list[Batch]:
        """Split a batch that ran out of memory; a single clip that does not fit is the end."""
        if not devices.is_out_of_memory(error):
            raise error
        self.clear_runners()
        count = len(batch.prompts)
        if count == 1:
            raise MemoryLimitError("one clip does not fit in memory: make it shorter") from error
        middle = count // 2
        return [batch.part(0, middle), batch.part(middle, count)]
