"""What scores models of text, files and sound, without their data."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import fetch
from benchmarks.corpus import auc, audio, files, wordpiece
from benchmarks.corpus.base import Floats, compare
from benchmarks.corpus.packages import Package
from benchmarks.corpus.sets import Sets, cut, distinct
from benchmarks.rebuild.g2p_gru import PHONEMES
from testmodels.fetching import Client, FetchError

# ---- tokens

_PIECES = ["[PAD]", "▁", *(f"[unused{i}]" for i in range(101)), "[", "▁un", "aff", "able", "▁cafe", "▁!", "▁[", "ff"]
_KNOWN = wordpiece.vocabulary(_PIECES)


def _written(numbers: Sequence[int]) -> list[str]:
    name = {number: piece for piece, number in _KNOWN.items()}
    assert (numbers[0], numbers[-1]) == (wordpiece.START, wordpiece.END)
    return ["?" if number == wordpiece.UNKNOWN else name[number] for number in numbers[1:-1]]


def test_vocabulary_is_written_as_bert_writes_it() -> None:
    assert {piece: _KNOWN[piece] for piece in ("[PAD]", "", "##[", "un", "##aff", "[")} == {
        "[PAD]": 0,
        "": 1,
        "##[": 103,
        "un": 104,
        "##aff": 105,
        "[": 109,
    }


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Unaffable CAFÉ!", ["un", "##aff", "##able", "cafe", "!"]),
        ("un[un", ["un", "[", "un"]),
        ("unaffablex un", ["?", "un"]),
        ("\n \t", []),
    ],
)
def test_longest_pieces_come_first(text: str, pieces: list[str]) -> None:
    assert _written(wordpiece.tokens(text, _KNOWN, 128)) == pieces


def test_tokens_are_cut_with_their_end_kept() -> None:
    assert _written(wordpiece.tokens("un un un un", _KNOWN, 5)) == ["un", "un", "un"]


# ---- area under the curve


def _by_pairs(scores: Floats, positive: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    ours, others = scores[positive][:, None], scores[~positive][None]
    return float(((ours > others) + 0.5 * (ours == others)).mean())


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=2))
def test_area_counts_pairs(items: list[tuple[int, bool, int]]) -> None:
    items.extend([(2, True, 0), (2, False, 1)])
    scores, positive = np.array([float(s) for s, _, _ in items]), np.array([p for _, p, _ in items])
    group = np.array([g for _, _, g in items])
    present = np.unique(group)
    score = auc.by_group([scores[group == g] for g in present], [positive[group == g] for g in present])
    assert score.n == len(present)
    assert score.value == pytest.approx(_by_pairs(scores, positive))


def test_interval_is_as_wide_as_the_area_varies() -> None:
    """Two models that see the same signal through noise of their own: the spread of the difference over fresh data."""
    rng = np.random.default_rng(0)

    def pair(groups: int = 200) -> tuple[float, float]:
        positive = [rng.random(6) < 0.7 for _ in range(groups)]
        found = [
            [mark + rng.standard_normal(6) * spread + rng.standard_normal() * 0.5 for mark in positive]
            for spread in (0.5, 0.8)
        ]
        difference = compare(*(auc.by_group(scores, positive) for scores in found), draws=500)
        return difference.value, (difference.high - difference.low) / (2 * 1.96)

    values, widths = np.array([pair() for _ in range(150)]).T
    # 150 draws give a standard deviation to 6 %, one in common to all groups; half as wide would be the usual mistake.
    assert widths.mean() == pytest.approx(values.std(), rel=0.2)


# ---- sets


@given(st.data())
def test_each_item_comes_once_whatever_the_order(data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 30)))
    shuffled = data.draw(st.permutations(numbers))
    first = distinct(numbers, lambda number: str(number).encode())
    assert first == distinct(shuffled, lambda number: str(number).encode())
    assert sorted(first) == sorted(set(numbers))


def test_cut_gives_each_item_to_one_set() -> None:
    sets = cut(range(10), test=5, development=2)
    assert sets == Sets(calibration=range(7, 10), development=range(5, 7), test=range(5))
    assert (sets.of("test"), sets.of("development")) == (sets.test, sets.development)
    assert cut(range(10), test=5, development=2, calibration=1).calibration == range(7, 8)


@pytest.mark.parametrize("calibration", [None, 1])
def test_too_few_items_are_refused(calibration: int | None) -> None:
    with pytest.raises(ValueError, match="too few"):
        cut(range(7), test=5, development=2, calibration=calibration)


# ---- files


def test_a_long_file_is_seen_at_both_ends() -> None:
    content = b"\n " + bytes(range(33, 97)) * 100 + b"end \n"
    row = np.frombuffer(files.seen(content), np.uint16)
    assert bytes(row[:1024].astype(np.uint8)) == content[2:1026]
    assert bytes(row[1024:].astype(np.uint8)) == content[-1026:-2]


def test_a_short_file_is_padded_outside() -> None:
    row = np.frombuffer(files.seen(b" abc"), np.uint16)
    assert row[:4].tolist() == [97, 98, 99, 256]
    assert row[-5:].tolist() == [256, 32, 97, 98, 99]  # magika strips the end at its end alone
    assert (row[4:-5] == 256).all()


# ---- sound


def test_loudness_is_judged_against_the_loudest_frame() -> None:
    frames = np.outer([1, 0.0101, 0.0099, 0], [1, -1]).astype(np.float32)
    assert audio.loud(frames).tolist() == [True, True, False, False]


@pytest.mark.parametrize("number", range(3))
def test_the_sound_before_the_voice_is_as_loud_and_no_speech(number: int) -> None:
    voice = np.vstack([np.full((30, 512), 0.25), np.zeros((10, 512))]).astype(np.float32)
    item = audio.after_a_sound(voice, number)
    assert item.speech.tolist() == [False] * 20 + [True] * 30 + [False] * 10
    assert np.array_equal(item.frames[20:], voice)
    assert np.sqrt(np.square(item.frames[:20]).mean()) == pytest.approx(0.25, rel=1e-5)


def test_a_frame_follows_the_end_of_the_one_before() -> None:
    frames = np.arange(3 * 512, dtype=np.float32).reshape(3, 512)
    fed = audio.Recording(frames, np.ones(3, np.bool_)).feeds["input"]
    assert fed.shape == (3, 576)
    assert not fed[0, :64].any()
    assert np.array_equal(fed[1:].ravel()[:576], np.arange(512 - 64, 1024))


def test_a_tone_has_its_pitch() -> None:
    item = audio.tone(3)
    spectrum = np.abs(np.fft.rfft(item.sound * np.hanning(len(item.sound)), 2**17))
    strongest = int(spectrum.argmax()) * audio.RATE / 2**17
    overtone = round(strongest / item.pitch)
    assert strongest / overtone == pytest.approx(item.pitch, rel=2e-3)  # half a second resolves 2 Hz, and it has noise
    assert np.array_equal(item.sound, audio.tone(3).sound)


# ---- packages


def _wheel() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("b/two.txt", "2")
        archive.writestr("a/one.txt", "1")
    return held.getvalue()


def _tarball() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, content in (("b/two.txt", b"2"), ("a/one.txt", b"1")):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            archive.addfile(entry, io.BytesIO(content))
    return held.getvalue()


@pytest.mark.parametrize(
    ("client", "name", "file", "content"),
    [
        ("pip", "some.thing==1.0", "some.thing-1.0.whl", _wheel()),
        ("npm", "@some/thing@1.0", "some-thing-1.0.tgz", _tarball()),
    ],
)
def test_a_package_gives_its_files_if_it_is_the_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Client, name: str, file: str, content: bytes
) -> None:
    monkeypatch.setenv("GRAPHSHRINK_CACHE", str(tmp_path))
    path = tmp_path / "archives" / file
    path.parent.mkdir()
    path.write_bytes(content)
    package = Package(client, name, hashlib.sha256(content).hexdigest())
    assert list(package.files()) == [("a/one.txt", b"1"), ("b/two.txt", b"2")]
    with pytest.raises(FetchError):
        list(Package(client, name, "0" * 64).files())


def test_what_cannot_be_had_is_said_and_the_rest_is_got(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> Path:
        raise FetchError("no network")

    monkeypatch.setattr(fetch, "DATA", {"there": lambda: Path("here"), "gone": missing})
    monkeypatch.setattr("sys.argv", ["fetch", "gone", "there"])
    assert fetch.main() == 1
    said = capsys.readouterr()
    assert said.out == "there here\n"
    assert "gone" in said.err
    monkeypatch.setattr("sys.argv", ["fetch", "there"])
    assert fetch.main() == 0


def test_phonemes_are_as_many_as_the_network_says() -> None:
    assert len(PHONEMES) == len(set(PHONEMES)) == 74
