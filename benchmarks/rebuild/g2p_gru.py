"""The network of the PyPI package `g2p-en`: letters of an English word to its phonemes, from the package's `.npz`.

The package (`g2p.py`) runs it in NumPy: an encoder GRU over the letters, whose last state starts a decoder GRU over the
phonemes before. Here the decoder is teacher-forced: the phonemes before are an input, and all steps run at once. Words
of a batch may differ in length: the encoder goes as many steps as there are letters other than <pad>.

    letters (n,letters) -> Gather -> GRU -> last state      letters of the word, </s>, <pad> ...
    previous (n,steps) -> Gather -> GRU (starts there) -> MatMul, Add -> logits (n,steps,74)
                                                            <s>, phonemes of the word, <pad> ...

Its gates come as r, z, n; those of ONNX as z, r, h. It resets after the recurrent product, `n = tanh(Wx + b + r (Rh +
c))`, which is `linear_before_reset=1`; both mix as `(1 - z) n + z h`.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from benchmarks.rebuild.graphs import FLOAT, INT64, model, value

PAD: Final = 0
LETTERS: Final = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
START, END = 2, 3  # of phonemes: <s> and </s>
_VOWELS: Final = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_CONSONANTS: Final = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W"),
    *("Y", "Z", "ZH"),
)
_STRESSED: Final = tuple(f"{vowel}{stress}" for vowel in _VOWELS for stress in "012")
PHONEMES: Final = ("<pad>", "<unk>", "<s>", "</s>", *sorted((*_STRESSED, "UW", *_CONSONANTS)))  # one UW has no stress


def read_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """The package's arrays by name."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _reordered(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gates r, z, n along the first axis as z, r, n."""
    r, z, n = np.split(rows, 3)
    return np.concatenate([z, r, n])


def _gru_weights(arrays: dict[str, NDArray[np.float32]], side: str) -> dict[str, NDArray[Any]]:
    biases = [_reordered(arrays[f"{side}_b_{part}"]) for part in ("ih", "hh")]
    return {
        f"{side}.W": _reordered(arrays[f"{side}_w_ih"])[None],
        f"{side}.R": _reordered(arrays[f"{side}_w_hh"])[None],
        f"{side}.B": np.concatenate(biases)[None],
    }


def build(archive: Path) -> onnx.ModelProto:
    """The network, from the package's `checkpoint20.npz`."""
    arrays = read_arrays(archive)
    hidden = arrays["enc_w_hh"].shape[1]
    weights: dict[str, NDArray[Any]] = {
        "enc.embedding": arrays["enc_emb"],
        **_gru_weights(arrays, "enc"),
        "dec.embedding": arrays["dec_emb"],
        **_gru_weights(arrays, "dec"),
        "fc.weight": arrays["fc_w"].T,
        "fc.bias": arrays["fc_b"],
        "pad": np.array(PAD, np.int64),
        "letter_axis": np.array([1], np.int64),
        "direction_axis": np.array([1], np.int64),
    }
    gru: dict[str, Any] = {"hidden_size": hidden, "linear_before_reset": 1}
    nodes = [
        helper.make_node("Equal", ["letters", "pad"], ["is_pad"], "is_pad"),
        helper.make_node("Not", ["is_pad"], ["is_letter"], "is_letter"),
        helper.make_node("Cast", ["is_letter"], ["ones"], "ones", to=onnx.TensorProto.INT32),
        helper.make_node("ReduceSum", ["ones", "letter_axis"], ["lengths"], "lengths", keepdims=0),
        helper.make_node("Transpose", ["letters"], ["letters_first"], "letters_first", perm=[1, 0]),
        helper.make_node("Gather", ["enc.embedding", "letters_first"], ["enc_in"], "enc.embed"),
        helper.make_node("GRU", ["enc_in", "enc.W", "enc.R", "enc.B", "lengths"], ["", "state"], "enc.gru", **gru),
        helper.make_node("Transpose", ["previous"], ["steps_first"], "steps_first", perm=[1, 0]),
        helper.make_node("Gather", ["dec.embedding", "steps_first"], ["dec_in"], "dec.embed"),
        helper.make_node("GRU", ["dec_in", "dec.W", "dec.R", "dec.B", "", "state"], ["dec_out"], "dec.gru", **gru),
        helper.make_node("Squeeze", ["dec_out", "direction_axis"], ["states"], "squeeze"),
        helper.make_node("Transpose", ["states"], ["batch_first"], "batch_first", perm=[1, 0, 2]),
        helper.make_node("MatMul", ["batch_first", "fc.weight"], ["product"], "fc"),
        helper.make_node("Add", ["product", "fc.bias"], ["logits"], "fc.add"),
    ]
    return model(
        "g2p_gru",
        nodes,
        [value("letters", INT64, ["n", "letters"]), value("previous", INT64, ["n", "steps"])],
        [value("logits", FLOAT, ["n", "steps", len(arrays["fc_b"])])],
        weights,
    )
