"""A model that graphshrink wrote, at work in headless Chromium on a page served by this machine, with a picture."""

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import spread
from benchmarks.runtimes import plans
from benchmarks.runtimes.cases import Case, write_cases
from benchmarks.runtimes.jobs import Answer, TensorFile
from benchmarks.runtimes.places import PLAYWRIGHT, WEB, chromium, node, node_package
from benchmarks.runtimes.verdict import Outcome, Verdict, judge
from testmodels.fetching import FetchError

_HERE: Final = Path(__file__).parent
_MODEL: Final = "lenet-5"
_ORT: Final = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_SECONDS: Final = 300


def main(picture: Path, *, install: bool) -> int:
    """Show the model, and say what came out; exit code 1 if a bit differs."""
    try:
        tools = [node(), str(_HERE / "browser.mjs"), str(node_package(PLAYWRIGHT)), chromium(install=install)]
        web = node_package(WEB) / "dist"
    except FetchError as e:
        print(f"browser: not available: {e}")
        return 0
    with tempfile.TemporaryDirectory(prefix="graphshrink-browser-") as scratch:
        site = Path(scratch) / "site"
        model, shown = _prepare(site, web)
        result_file = Path(scratch) / "result.json"
        with _served(site) as url:
            _look([*tools, url, str(result_file), str(picture)])
        result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        if "failure" in result:
            raise RuntimeError(f"the page failed: {result['failure']}")
        verdicts = _judge(result, model, shown, Path(scratch))
    for which in ("load", "run"):
        print(f"{which}: {spread(result[which]['small'])} ms, plain {spread(result[which]['plain'])} ms")
    for verdict in verdicts:
        print(f"{verdict.case.name}: {verdict.outcome} {verdict.why}")
    print(f"wrote {picture}")
    return 0 if all(verdict.outcome == Outcome.EQUAL for verdict in verdicts) else 1


def _prepare(site: Path, web: Path) -> tuple[Case, Case]:
    """Put together what is served; returns the model as a case, and the one with its weights shown."""
    first = itertools.islice(plans.networks([_MODEL]), 2)  # as it is and with the weights shown, both at 4 bits
    model, shown = write_cases((replace(plan, policies=plan.policies[-1:]) for plan in first), site / "files")
    for name, path in (("plain", model.plain), ("small", model.encoded), ("shown", shown.encoded)):
        shutil.copy(path, site / f"{name}.onnx")
    (site / "ort").mkdir()
    for name in _ORT:
        shutil.copy(web / name, site / "ort" / name)
    shutil.copy(_HERE / "page.html", site / "index.html")
    about = {
        "model": model.name,
        "inputs": [_relative(tensor, site) for tensor in model.inputs],
        "outputs": model.outputs,
        "weights": [_relative(tensor, site) for tensor in shown.weights],
    }
    (site / "about.json").write_text(json.dumps(about), encoding="utf-8")
    return model, shown


def _relative(tensor: TensorFile, site: Path) -> dict[str, Any]:
    return {**asdict(tensor), "file": str(Path(tensor.file).relative_to(site))}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Keep still."""


@contextmanager
def _served(folder: Path) -> Generator[str]:
    """The folder's address on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def _look(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the browser ended with {done.returncode}: {done.stderr[-2000:]}")


def _judge(result: Mapping[str, Any], model: Case, shown: Case, folder: Path) -> list[Verdict]:
    """What the page gave, compared here."""
    plain, small = (_answer(result[which], model, folder / which) for which in ("plain", "small"))
    weights = _answer(result["weights"], shown, folder / "weights")
    only_weights = replace(shown, outputs=tuple(weight.name for weight in shown.weights))
    return [judge(model, plain, small), judge(only_weights, weights, weights)]


def _answer(held: Mapping[str, str], case: Case, folder: Path) -> Answer:
    """Outputs by name; the page gives bytes alone, of float32 numbers."""
    folder.mkdir()
    shapes = {weight.name: weight.shape for weight in case.weights}
    outputs: dict[str, TensorFile] = {}
    for name, content in held.items():
        raw = base64.b64decode(content)
        file = folder / f"{len(outputs)}.bin"
        file.write_bytes(raw)
        outputs[name] = TensorFile(name, "float32", shapes.get(name, (len(raw) // 4,)), str(file))
    return Answer(outputs)
