"""What the switch records, told as a WAV file that is one."""

import io
import wave

import pytest

from bridge.calls import wav


@pytest.mark.parametrize(
    ("size", "ms"),
    [
        (0, 0),
        (43, 0),
        (44, 0),
        (45, 0),
        (46, 0),
        (60, 1),
        (44 + 16_000, 1000),
        (44 + 16_001, 1000),
        (44 + 24_000, 1500),
    ],
)
def test_a_file_is_as_long_as_its_sound(size: int, ms: int) -> None:
    assert wav.duration_ms(size) == ms
    assert wav.length(size) == max(size, 44) // 2 * 2


@pytest.mark.parametrize("samples", [0, 1, 8_000, 5_000_000])
def test_others_read_the_header_as_it_is_meant(samples: int) -> None:
    size = 44 + 2 * samples
    head = wav.head(size)
    assert len(head) == wav.HEAD_BYTES
    with wave.open(io.BytesIO(head), "rb") as read:
        assert (read.getframerate(), read.getsampwidth(), read.getnchannels()) == (8000, 2, 1)
        assert read.getnframes() == samples
        assert read.getcomptype() == "NONE"
