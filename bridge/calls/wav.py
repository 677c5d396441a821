"""The WAV files that the switch records: 16 bits, 8000 samples a second, one channel, a header of 44 bytes. Pure."""

from __future__ import annotations

import struct
from typing import Final

HEAD_BYTES: Final = 44
_RATE_HZ: Final = 8000
_SAMPLE_BYTES: Final = 2
_PCM: Final = 1


def duration_ms(size: int) -> int:
    """How long a file of so many bytes sounds."""
    return _samples(size) * 1000 // _RATE_HZ


def length(size: int) -> int:
    """Bytes of the whole file that is told of one of `size` bytes: whole samples only."""
    return HEAD_BYTES + _samples(size) * _SAMPLE_BYTES


def head(size: int) -> bytes:
    """The header that belongs to a file of so many bytes."""
    sound = _samples(size) * _SAMPLE_BYTES
    about = struct.pack(
        "<4sIHHIIHH",
        b"fmt ",
        16,
        _PCM,
        1,
        _RATE_HZ,
        _RATE_HZ * _SAMPLE_BYTES,
        _SAMPLE_BYTES,
        8 * _SAMPLE_BYTES,
    )
    return struct.pack("<4sI4s", b"RIFF", 36 + sound, b"WAVE") + about + struct.pack("<4sI", b"data", sound)


def _samples(size: int) -> int:
    return max(size - HEAD_BYTES, 0) // _SAMPLE_BYTES
