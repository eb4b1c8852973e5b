"""Models that hear: where somebody speaks (`silero_vad`), and which pitch (`swift_f0`).

`silero_vad`: recordings of one speaker at 8 kHz, resampled to 16 kHz. A frame of 32 ms holds speech when its energy is
at most `_QUIET` below that of the loudest frame of its recording. Before each recording comes a sound without speech,
half as long and as loud: white noise, pink noise or a tone. Without it energy itself would be the best answer, and the
model ruined by 4 bits per tensor scored more (.962) than the original (.951); with it energy scores .52. The score is
the area under the ROC curve over all frames, a recording being an item (see `auc`).

`swift_f0`: tones of known pitch with overtones and noise. The score is the share of frames that are found voiced and at
most 50 cents off, a tone being an item. The frames whose window reaches over an end of the tone do not count.
"""

import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from benchmarks import fetch_models
from benchmarks.corpus import auc
from benchmarks.corpus.base import Floats, Run, Score, Split, Task
from benchmarks.corpus.packages import Package
from benchmarks.corpus.sets import Sets, cut, distinct
from graphshrink.ir.types import Array

Sound: TypeAlias = npt.NDArray[np.float32]
RATE: Final = 16_000

# ---- silero_vad

SPEECH: Final = Package(
    "apt", "asterisk-core-sounds-en-wav", "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d"
)
_NO_SPEECH: Final = frozenset({"ascending-2tone", "beep", "beeperr", "descending-2tone", "tt-monkeys"})
_FRAME: Final = 512
_CONTEXT: Final = 64  # samples of the frame before, which the model takes with each
_STATE: Final = (1, 1, 128)
_QUIET: Final = 40.0  # dB
_SHORTEST: Final = 10  # frames of what is no speech


@dataclass(frozen=True, slots=True)
class Recording:
    """Frames (n, 512) of a sound, and which of them (n,) hold speech."""

    frames: Sound
    speech: npt.NDArray[np.bool_]

    @property
    def feeds(self) -> dict[str, Array]:
        """What the model takes."""
        before = np.zeros((len(self.frames), _CONTEXT), np.float32)
        before[1:] = self.frames[:-1, -_CONTEXT:]
        states = {name: np.zeros(_STATE, np.float32) for name in ("h", "c")}
        return {"input": np.hstack([before, self.frames]), **states}


def loud(frames: Sound) -> npt.NDArray[np.bool_]:
    """Which frames (n, samples) are at most `_QUIET` below the loudest."""
    energy = np.square(frames, dtype=np.float64).mean(axis=1)
    return np.asarray(energy > energy.max() * 10 ** (-_QUIET / 10))


def _frames(content: bytes) -> Sound:
    with wave.open(io.BytesIO(content)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE // 2, 1, 2):
            raise ValueError("a recording is not one channel of 16 bits at 8 kHz")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64) / 2**15
    doubled: Any = resample_poly(samples, 2, 1)
    count = len(doubled) // _FRAME
    return np.asarray(doubled[: count * _FRAME], np.float32).reshape(count, _FRAME)


def _white(rng: np.random.Generator, count: int) -> Floats:
    return rng.standard_normal(count)


def _pink(rng: np.random.Generator, count: int) -> Floats:
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    return np.fft.irfft(spectrum, count)


def _sine(rng: np.random.Generator, count: int) -> Floats:
    return np.asarray(np.sin(2 * np.pi * rng.uniform(200, 2000) / RATE * np.arange(count)))


_SOUNDS: Final = (_white, _pink, _sine)


def after_a_sound(voice: Sound, number: int) -> Recording:
    """The voice after what is none, which depends on the number; as loud as the voice where it speaks."""
    speech = loud(voice)
    count = max(_SHORTEST, len(voice) // 2)
    other = _SOUNDS[number % len(_SOUNDS)](np.random.default_rng([7, number]), count * _FRAME)
    scaled = other * np.sqrt(np.square(voice[speech], dtype=np.float64).mean() / np.square(other).mean())
    frames = np.concatenate([scaled.astype(np.float32).reshape(count, _FRAME), voice])
    return Recording(frames, np.concatenate([np.zeros(count, np.bool_), speech]))


@cache
def recordings() -> Sets[Recording]:
    """All that hold a voice."""
    paths = ((PurePosixPath(name), content) for name, content in SPEECH.files())
    voices = (
        _frames(content)
        for path, content in paths
        if path.suffix == ".wav" and path.stem not in _NO_SPEECH and path.parent.name != "silence"
    )
    shuffled = distinct(voices, lambda frames: frames.tobytes())
    items = [after_a_sound(voice, number) for number, voice in enumerate(shuffled)]
    return cut(items, test=280, development=140)


def _score_speech(run: Run, split: Split) -> Score:
    items = recordings().of(split)
    found = [run(recording.feeds)["speech_probs"].astype(np.float64) for recording in items]
    return auc.by_group(found, [recording.speech for recording in items])


def _calibrate_speech(count: int) -> Sequence[Mapping[str, Array]]:
    return [recording.feeds for recording in islice(recordings().calibration, count)]


# ---- swift_f0

_LOWEST, _HIGHEST = np.float32(46.875), np.float32(2093.75)  # what the model is made for
_PITCHES: Final = (60.0, 1600.0)
_SECONDS: Final = 0.5
_NOISE: Final = (0.0, 40.0)  # dB below the tone
_HOP: Final = 256
_EDGE: Final = 11  # frames: half a window of 2048 and seven frames more, which the model looks at on each side
_CENTS: Final = 50
_VOICED: Final = 0.5


@dataclass(frozen=True, slots=True)
class Tone:
    """A sound and its pitch in Hz."""

    sound: Sound
    pitch: float

    @property
    def feeds(self) -> dict[str, Array]:
        """What the model takes."""
        return {"audio": self.sound[None], "fmin": np.asarray(_LOWEST), "fmax": np.asarray(_HIGHEST)}


def tone(number: int) -> Tone:
    """A tone that depends on its number alone."""
    rng = np.random.default_rng([4, number])
    pitch = float(np.exp(rng.uniform(*np.log(_PITCHES))))
    time = np.arange(int(RATE * _SECONDS)) / RATE
    overtones = np.arange(1, int(RATE / 2 / pitch) + 1)[:, None]
    parts = np.sin(2 * np.pi * (pitch * overtones * time + rng.random(overtones.shape)))
    clean: Floats = (parts * overtones ** -rng.uniform(0.5, 2)).sum(axis=0)
    noise = rng.standard_normal(len(time)) * 10 ** (-rng.uniform(*_NOISE) / 20)
    mixed = clean / clean.std() + noise
    return Tone((mixed / np.abs(mixed).max() * rng.uniform(0.05, 0.9)).astype(np.float32), pitch)


@cache
def tones() -> Sets[Tone]:
    """By their numbers."""
    return cut(list(map(tone, range(1000))), test=600, development=300)


def _right(run: Run, item: Tone) -> float:
    found = run(item.feeds)
    inner = slice(_EDGE, -_EDGE)
    pitch, confidence = found["pitch"][0, inner].astype(np.float64), found["confidence"][0, inner]
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(1200 * np.log2(pitch / item.pitch))
    return float(((off <= _CENTS) & (confidence >= _VOICED)).mean())


def _score_tones(run: Run, split: Split) -> Score:
    return Score("frames right", np.array([_right(run, item) for item in tones().of(split)]))


def _calibrate_tones(count: int) -> Sequence[Mapping[str, Array]]:
    return [item.feeds for item in islice(tones().calibration, count)]


TASKS: Final = (
    Task(
        "silero_vad",
        "convolutions and an LSTM; speech by energy",
        partial(fetch_models.get, "silero_vad"),
        _calibrate_speech,
        _score_speech,
    ),
    Task(
        "swift_f0",
        "convolutions on a spectrogram; tones of known pitch",
        partial(fetch_models.get, "swift_f0"),
        _calibrate_tones,
        _score_tones,
    ),
)
