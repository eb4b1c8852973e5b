"""The options of the main command, which are the keys of a configuration file as well."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from graphshrink.errors import UsageError

_LIST: Final[dict[str, Any]] = {"negative": "", "show_default": False}  # may be given several times

Calibration = Annotated[str | None, Parameter(help="Sample inputs: .npz, .npy, a folder, or file.py:function.")]
Samples = Annotated[int, Parameter(help="Samples to use at most; 80 % to fit, 20 % to judge.")]
Seed = Annotated[int, Parameter(help="Seed of every random choice.")]
Shapes = Annotated[
    tuple[str, ...],
    Parameter(name="--input-shape", help="NAME:1,3,224,224 to run an input of unknown size with.", **_LIST),
]
Providers = Annotated[tuple[str, ...], Parameter(help="ONNX Runtime execution providers. [default: CPU]", **_LIST)]
TimeLimit = Annotated[float, Parameter(help="Seconds that one check, or one run of one sample, may take.")]
WorkerMemory = Annotated[
    str, Parameter(help="Memory of the process in which models run, beside what their files need (Linux).")
]
Quiet = Annotated[bool, Parameter(negative="", help="No summary and no progress.")]
Debug = Annotated[bool, Parameter(negative="", help="Show tracebacks.")]
CPU: Final = ("CPUExecutionProvider",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Everything that may be said of a compilation, beside IN and OUT."""

    passes: Annotated[
        str | None,
        Parameter(name=["--passes", "-p"], help="What to do, or none. [default: weight-sharing{bits=8}]"),
    ] = None
    calibration: Calibration = None
    samples: Samples = 128
    max_error: Annotated[
        float | None,
        Parameter(help="Bound on every output's error ||Y'-Y|| / ||Y||. 0.1 with --calibration, else no bound."),
    ] = None
    metric: Annotated[
        str | None, Parameter(help="file.py:function that scores a model on your data, the larger the better.")
    ] = None
    max_drop: Annotated[float | None, Parameter(help="How far that score may fall.")] = None
    require_faster: Annotated[
        bool, Parameter(negative="", help="Measure latency; exit with 4 when the result is slower.")
    ] = False
    encoding: Annotated[
        str, Parameter(help="How weights are stored: plain, fast (to load), small (fewest bytes) or quantised.")
    ] = "fast"
    portable: Annotated[
        bool, Parameter(negative="", help="No functions in the model, for runtimes that know none (OpenVINO).")
    ] = False
    load_memory: Annotated[
        str | None, Parameter(help="Memory that weights may take while the result is loaded, such as 64MB.")
    ] = None
    include: Annotated[
        tuple[str, ...], Parameter(help="Only weights, operators or types that match this pattern.", **_LIST)
    ] = ()
    exclude: Annotated[tuple[str, ...], Parameter(help="Nothing that matches this pattern.", **_LIST)] = ()
    report: Annotated[Path | None, Parameter(help="Write the ledger as JSON (docs/report.md).")] = None
    seed: Seed = 0
    jobs: Annotated[int | None, Parameter(help="Threads; the result does not depend on it. [default: all]")] = None
    cluster: Annotated[
        str | None, Parameter(help="A Dask scheduler whose workers solve layers, such as tcp://10.0.0.5:8786.")
    ] = None
    input_shape: Shapes = ()
    providers: Providers = CPU
    save_as_external_data: Annotated[
        bool, Parameter(negative="", help="Weights into a file of their own. Automatic above 1.5 GB.")
    ] = False
    plugin: Annotated[
        tuple[Path, ...], Parameter(help="A Python file with further passes or encodings; it is run.", **_LIST)
    ] = ()
    max_memory: Annotated[
        str | None, Parameter(help="Memory of this process, beside mapped files, such as 2GB (Linux).")
    ] = None
    worker_memory: WorkerMemory = "8GiB"
    time_limit: TimeLimit = 300.0
    dry_run: Annotated[bool, Parameter(negative="", help="Do everything, write no model.")] = False
    verify: Annotated[bool, Parameter(help="Compare outputs with the original's in ONNX Runtime.")] = True
    quiet: Quiet = False
    debug: Debug = False

    @property
    def threads(self) -> int:
        """How many threads may work."""
        return self.jobs if self.jobs is not None else os.cpu_count() or 1


def shapes_of(given: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`NAME:1,3,224,224` -> shapes by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in given:
        name, separator, dims = text.rpartition(":")
        try:
            shapes[name] = tuple(int(dim) for dim in dims.split(",") if dim)
        except ValueError:
            separator = ""
        if not separator or not name or any(dim < 0 for dim in shapes.get(name, ())):
            raise UsageError(f"--input-shape {text!r}: write it like NAME:1,3,224,224")
    return shapes
