"""Names and options of passes."""

import dataclasses
import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from graphshrink.errors import UsageError
from graphshrink.ir.graph import Graph
from graphshrink.passes.weight_sharing import WeightSharing
from graphshrink.passing.base import Context, Pass, PassResult
from graphshrink.registry import PASSES, Option, catalogue, options_of, passes_from

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Everything(Pass):
    """A pass with an option of every type.

    Attributes:
        count: how many: one, two
            or more.
        ratio: between 0 and 1.
        text: anything.
        flag: yes or no.

    Notes:
        count: this is no help.
    """

    name: ClassVar[str] = "everything"
    buys: ClassVar[str] = "nothing"
    count: int = 1
    ratio: float = 0.5
    text: str = "a"
    flag: bool = False
    silent: int = 0

    def run(self, graph: Graph, context: Context) -> PassResult:
        return PassResult()


def with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphshrink.registry.known.PASSES", (*PASSES, Everything))


def test_names_of_built_in_passes_are_frozen() -> None:
    names = [
        "weight-sharing",
        "net-trim",
        "sparsify",
        "frequency-packing",
        "channel-removal",
        "strip",
        "fold",
        "half",
        "pack",
    ]
    assert [cls.name for cls in PASSES] == names


@pytest.mark.parametrize("cls", PASSES)
def test_every_pass_is_what_a_pass_has_to_be(cls: type[Pass]) -> None:
    assert issubclass(cls, Pass)
    assert dataclasses.is_dataclass(cls)
    parameters: Any = vars(cls)["__dataclass_params__"]
    assert parameters.frozen
    assert cls.name == cls.__module__.rpartition(".")[2].replace("_", "-")
    assert cls.name == "-".join(_words(cls.__name__))
    assert (ROOT / "passes" / f"{cls.name.replace('-', '_')}.py").is_file()
    assert cls.buys
    assert catalogue().find(cls.name).load() is cls
    assert passes_from(cls.name) == [cls()]
    for option in options_of(cls):
        assert option.help, f"{option.name} is not described"
        assert option.type in ("int", "int | str", "float", "str", "bool")


def _words(name: str) -> list[str]:
    starts = [index for index, letter in enumerate(name) if letter.isupper()]
    return [name[start:end].lower() for start, end in zip(starts, [*starts[1:], None], strict=True)]


def test_options_come_from_fields() -> None:
    assert list(options_of(WeightSharing))[:2] == [
        Option(
            "bits",
            "int | str",
            "4",
            'bits a weight, 1 to 8; "auto" chooses them for each tensor under the model\'s bound, '
            '"auto/2" under half of it.',
        ),
        Option(
            "granularity",
            "str",
            "auto",
            '"auto", "tensor", "channel", or the number of channels that share a codebook; "model" for one codebook '
            "for all layers.",
        ),
    ]
    assert list(options_of(Everything)) == [
        Option("count", "int", "1", "how many: one, two or more."),
        Option("ratio", "float", "0.5", "between 0 and 1."),
        Option("text", "str", "a", "anything."),
        Option("flag", "bool", "False", "yes or no."),
        Option("silent", "int", "0", ""),
    ]


def test_options_become_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    with_everything(monkeypatch)
    [found] = passes_from("everything{count=-3, ratio=1e-3, text='x, y', flag=TRUE}")
    assert found == Everything(-3, 0.001, "x, y", True)
    assert passes_from("weight-sharing, everything{flag=false}") == [WeightSharing(), Everything()]


def test_none_asks_for_none() -> None:
    assert passes_from("none") == []
    assert passes_from(" none ") == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("weight-shairng", "no pass is called 'weight-shairng'; did you mean 'weight-sharing'?"),
        (
            "zzz",
            "no pass is called 'zzz'; there are channel-removal, everything, fold, frequency-packing, half, net-trim, "
            "pack, sparsify, strip, weight-sharing, and none",
        ),
        ("weight-sharing{bit=4}", "weight-sharing has no option 'bit'; it has bits, granularity"),
        ("weight-sharing{name=x}", "weight-sharing has no option 'name'"),
        ("weight-sharing{bits=four}", "weight-sharing: bits='four' is no int"),
        ("weight-sharing{bits=4.0}", "bits='4.0' is no int"),
        ("weight-sharing{bits=9}", "bits=9 is outside 1 to 8"),
        ("weight-sharing{granularity=row}", "granularity='row' is none of"),
        ("everything{ratio=x}", "ratio='x' is no float"),
        ("everything{ratio=nan}", "ratio='nan' is no float"),
        ("everything{ratio=inf}", "ratio='inf' is no float"),
        ("everything{flag=yes}", "flag='yes' is no bool"),
        ("none{bits=4}", "none stands alone"),
        ("none,weight-sharing", "none stands alone"),
        ("", "cannot read"),
    ],
)
def test_refusing(spec: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_everything(monkeypatch)
    with pytest.raises(UsageError) as error:
        passes_from(spec)
    assert message in str(error.value)


def test_passes_are_imported_under_one_name_only() -> None:
    """`import passes` would make each class a second time."""
    code = "import graphshrink.passes.weight_sharing\nimport passes"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("ImportError: import graphshrink.passes, not the folder passes/ by itself")
    assert importlib.import_module("graphshrink.passes.weight_sharing").WeightSharing is WeightSharing
