import io
import struct

import numpy as np
import pytest
import soundfile

from musicgen_rl.audio.encoding import append_chunk
from musicgen_rl.audio.tags import (
    MARK,
    id3,
    make_tags,
    parse_settings,
    read_riff_comment,
    riff_chunks,
    riff_info,
)
from musicgen_rl.errors import AudioFileError, InputError

SETTINGS = {"prompt": "sad piano", "seed": 7, "model": "pocket", "weights_license": "CC0-1.0"}


def small_wav(num_samples: int = 3) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.zeros(num_samples), 8000, format="WAV", subtype="PCM_16")
    return out.getvalue()


def tagged_wav(tags) -> bytes:
    """Put a chunk behind a small wav, as the encoder does."""
    out = io.BytesIO(small_wav())
    append_chunk(out, riff_info(tags))
    return out.getvalue()


def test_people_read_the_prompt_the_maker_and_the_licence():
    tags = make_tags(SETTINGS | {"date": "2026-11-23"})
    assert tags.title == "sad piano"
    assert tags.artist == "musicgen-rl, model pocket"
    assert tags.software.startswith("musicgen-rl ")
    assert tags.copyright == "Licence of the model's weights: CC0-1.0"
    assert tags.date == "2026-11-23"
    assert tags.comment.startswith("Made by a model")


def test_a_title_is_one_printable_line_of_bounded_length():
    assert make_tags({"prompt": "a\x00b\nc\td\ud800"}).title == "a b c d?"
    assert len(make_tags({"prompt": "x" * 5000}).title) == 200


@pytest.mark.parametrize(
    "prompt", ["plain", "钢琴 🎹 é", "a\x00b\n", "\ud800", 'quote " and {brace}']
)
def test_settings_come_back_from_the_comment(prompt):
    settings = SETTINGS | {"prompt": prompt, "nested": {"list": [1, 2.5, None, True]}}
    comment = make_tags(settings).comment
    assert comment.isascii()
    assert comment.isprintable()
    assert parse_settings(comment) == settings
    assert parse_settings(f"eng\n{comment} edited by a player") == settings


def test_foreign_comments_hold_no_settings():
    assert parse_settings("") is None
    assert parse_settings('{"seed": 7}') is None
    assert parse_settings(make_tags({}).comment) is None


@pytest.mark.parametrize("damaged", ['{"seed": 7', "[1, 2]", "", "nonsense"])
def test_damaged_settings_are_refused_not_guessed(damaged):
    with pytest.raises(AudioFileError, match="damaged"):
        parse_settings(MARK + damaged)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, np.float32(1)])
def test_settings_that_json_cannot_hold_are_refused(value):
    with pytest.raises(InputError, match="plain JSON values"):
        make_tags({"x": value})


def test_riff_info_by_hand():
    tags = make_tags({"prompt": "abc"})
    wav = tagged_wav(tags)  # 3 samples: 6 bytes of data
    assert struct.unpack_from("<I", wav, 4)[0] == len(wav) - 8
    ids = [chunk_id for chunk_id, _, _ in riff_chunks(wav)]
    assert ids == [b"fmt ", b"data", b"LIST"]
    _, start, size = riff_chunks(wav)[-1]
    assert start + size == len(wav)
    # INAM, four bytes of size, "abc" and its NUL
    assert wav[start : start + 16] == b"INFOINAM\x04\x00\x00\x00abc\x00"
    assert read_riff_comment(wav) == tags.comment


def test_chunks_of_odd_length_are_padded():
    tags = make_tags({"prompt": "ab"})  # "ab" and its NUL: 3 bytes
    wav = tagged_wav(tags)
    _, start, _ = riff_chunks(wav)[-1]
    assert wav[start + 4 : start + 20] == b"INAM\x03\x00\x00\x00ab\x00\x00IART"
    assert read_riff_comment(wav) == tags.comment


def test_a_wav_without_tags_has_no_comment():
    assert read_riff_comment(small_wav()) == ""
    assert read_riff_comment(b"OggS" + b"\0" * 40) == ""
    assert riff_chunks(b"RIFF") == []


def test_id3_by_hand():
    tagged = id3(make_tags({"prompt": "abc"})) + b"\xff\xfb"
    assert tagged[:5] == b"ID3\x03\x00"
    a, b, c, d = tagged[6:10]
    size = a << 21 | b << 14 | c << 7 | d
    assert max(a, b, c, d) < 128
    assert tagged[10 + size :] == b"\xff\xfb"
    # TIT2, size 4, no flags, encoding 0 (Latin-1), "abc"
    assert tagged[10:24] == b"TIT2\x00\x00\x00\x04\x00\x00\x00abc"


def test_id3_takes_the_year_of_the_date_and_the_whole_of_all_else():
    tagged = id3(make_tags({"prompt": "abcdef", "date": "2026-11-23"}))
    assert tagged[10:27] == b"TIT2\x00\x00\x00\x07\x00\x00\x00abcdef"
    assert b"TYER\x00\x00\x00\x05\x00\x00\x002026" in tagged
    assert b"2026-11-23" in tagged  # in the settings


def test_id3_writes_other_scripts_as_utf16_with_a_mark():
    tagged = id3(make_tags({"prompt": "钢"}))
    assert tagged[10:25] == b"TIT2\x00\x00\x00\x05\x00\x00\x01" + "钢".encode("utf-16")
