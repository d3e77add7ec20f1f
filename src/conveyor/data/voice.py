"""Speech as the WORLD vocoder has it: pitch, voicing, and the envelope of the spectrum (M. Morise et al. 2016)."""

from __future__ import annotations

import io
import wave
from typing import NamedTuple

import numpy as np

from conveyor.errors import ConveyorError

PERIOD = 0.005
"""Seconds from a frame to the next."""
ENVELOPE = 40
"""Numbers of the envelope: a cosine transform of its logarithm on the mel scale."""
LOWEST, HIGHEST = 60.0, 500.0
"""Hertz of a voice."""


class Voice(NamedTuple):
    """Speech, frame by frame."""

    envelope: np.ndarray
    """[T, ENVELOPE]"""
    pitch: np.ndarray
    """log Hertz [T], drawn on through what has none."""
    voiced: np.ndarray
    """[T]: 1 where there is a pitch."""
    breath: np.ndarray
    """[T, bands]: how much of each band is noise, in decibels."""


def analyse(samples: np.ndarray, rate: int) -> Voice:
    """The frames of samples."""
    import pyworld

    x = samples.astype(np.float64)
    coarse, times = pyworld.dio(x, rate, f0_floor=LOWEST, f0_ceil=HIGHEST, frame_period=1000 * PERIOD)
    hertz = pyworld.stonemask(x, coarse, times, rate)
    envelope = pyworld.code_spectral_envelope(pyworld.cheaptrick(x, hertz, times, rate), rate, ENVELOPE)
    breath = pyworld.code_aperiodicity(pyworld.d4c(x, hertz, times, rate), rate)
    voiced = hertz > 0
    if not voiced.any():
        raise ConveyorError("[voice] expected speech, got sound without any pitch; give another")
    pitch = np.interp(np.arange(len(hertz)), np.flatnonzero(voiced), np.log(hertz[voiced]))
    return Voice(*(part.astype(np.float32) for part in (envelope, pitch, voiced, breath)))


def synthesise(voice: Voice, rate: int) -> np.ndarray:
    """The samples of frames, -1 to 1."""
    import pyworld

    points = pyworld.get_cheaptrick_fft_size(rate)
    hertz = np.exp(voice.pitch.astype(np.float64)).clip(LOWEST, HIGHEST) * (voice.voiced > 0.5)
    envelope = pyworld.decode_spectral_envelope(np.ascontiguousarray(voice.envelope, np.float64), rate, points)
    breath = pyworld.decode_aperiodicity(np.ascontiguousarray(voice.breath, np.float64).clip(-60, 0), rate, points)
    samples = pyworld.synthesize(hertz, envelope, breath, rate, 1000 * PERIOD)
    loudest: np.ndarray = samples / max(1.0, np.abs(samples).max())
    return loudest.astype(np.float32)


def distortion(one: np.ndarray, other: np.ndarray, rate: int) -> np.ndarray:
    """Mel-cepstral distortion [T] of envelopes [T, ENVELOPE], in decibels, without the loudness.

    (10 / ln 10) sqrt(2 sum_d (c_d - c'_d)^2) of cepstra is the root mean square of the difference of the envelopes in
    decibels over the mel scale; of a cosine transform of N points with orthonormal rows it is that of its numbers over
    sqrt(N).
    """
    import pyworld

    points = pyworld.get_cheaptrick_fft_size(rate)
    flat = np.full((1, points // 2 + 1), np.e**2)
    size = (pyworld.code_spectral_envelope(flat, rate, 2)[0, 0] / 2) ** 2  # N: the first number is sqrt(N) log of it
    found: np.ndarray = 10 / np.log(10) * np.sqrt(np.square(one - other)[:, 1:].sum(1) / size)
    return found


def wav(samples: np.ndarray, rate: int) -> bytes:
    """Samples -1 to 1 as a WAV file of 16 bits."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((32767 * samples.clip(-1, 1)).astype("<i2").tobytes())
    return content.getvalue()
