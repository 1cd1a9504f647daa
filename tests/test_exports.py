import pytest

import musicgen_rl

PUBLIC = {
    "Clip", "GenerationConfig", "LoudnessConfig", "MusicgenRLError", "Pipeline", "SamplingConfig",
    "read_audio", "read_tags",
}  # fmt: skip


def test_exactly_these_names_are_public_and_there():
    assert set(musicgen_rl.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(musicgen_rl, name).__doc__
        assert name in dir(musicgen_rl)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Pipelin"):
        musicgen_rl.Pipelin  # noqa: B018
