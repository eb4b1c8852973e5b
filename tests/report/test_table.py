"""The summary: what matters first, never wider than a terminal."""

from typing import Any

from graphshrink.report.table import summary
from graphshrink.report.text import columns


def layer(label: str, plain: int, stored: int, encoding: str = "codebook") -> dict[str, Any]:
    return {
        "label": label,
        "plain_bytes": plain,
        "stored_bytes": stored,
        "encoding": encoding,
        "parameters": plain // 4,
    }


def report(**changes: Any) -> dict[str, Any]:
    verdict = {"error": 0.01, "samples": 3, "outputs": {"y": {"top1_agreement": 0.5}}}
    metric = {"name": "m.py:" + "f" * 200, "original": 0.99, "result": 0.98, "max_drop": 0.02}
    return {
        "input": {"bytes": 1000, "gzip_bytes": 900},
        "output": {"bytes": 200, "gzip_bytes": 150},
        "verification": {"random": False, "bound": 0.1, "held_out": verdict, "fit": verdict, "metric": metric},
        "latency": {"ratio": 1.25, "before": 0.00123, "spread": [0.98, 1.04]},
        "timeline": {"loading": 0.1, "p": 2.0, "verifying": 0.5, "encoding": 0.2},
        "passes": [
            {
                "name": "p",
                "rolled_back": None,
                "backed_off": False,
                "graph": ["all of it " * 20],
                "kept": ["the rest\x1b[31m " * 20],
                "layers": {"a": {"detail": "d"}, "b": {"reason": "r\x1b[31m" * 50}},
            }
        ],
        "layers": [layer("a" * 300, 900, 100), layer("b", 80, 80, "plain")],
        **changes,
    }


def test_leads_with_what_was_saved() -> None:
    assert next(summary(report(), "model.onnx")) == "1.00 kB -> 200 B, 5.00 x smaller; gzip 900 B -> 150 B; model.onnx"
    assert "1.10 x LARGER" in next(summary(report(output={"bytes": 1100, "gzip_bytes": 1}), "m"))


def test_is_at_most_80_columns_and_free_of_control_characters() -> None:
    lines = list(summary(report(layers=[layer("層" * 40 + str(i), 10**9 - i, 10**8) for i in range(20)]), "m" * 300))
    assert all(columns(line) <= 80 and "\x1b" not in line for line in lines)
    assert any("and 12 more" in line for line in lines)


def test_shows_the_metric_the_latency_and_where_the_time_went() -> None:
    text = "\n".join(summary(report(), "m"))
    assert "0.99 -> 0.98 (at most 0.02 less)" in text
    assert "1.25 x of 1.23 ms (the original against itself 0.98 to 1.04 x)" in text
    assert "2.8 s: p 2, verifying 0.5, encoding 0.2" in text


def test_says_when_nothing_was_verified_and_when_a_pass_was_rolled_back() -> None:
    entry = {"name": "p", "rolled_back": "too far", "backed_off": False, "graph": [], "kept": [], "layers": {}}
    text = "\n".join(summary(report(verification=None, passes=[entry]), "m"))
    assert "NOT VERIFIED" in text and "p: rolled back" in text


def test_a_pass_over_the_whole_graph_is_told_without_layers() -> None:
    entry: dict[str, Any] = {"name": "p", "rolled_back": None, "backed_off": False, "layers": {}}
    lines = list(summary(report(passes=[{**entry, "graph": ["g done"], "kept": ["k left"]}]), "m"))
    assert [line.split() for line in lines if "done" in line or "left" in line] == [
        ["p:", "g", "done"],
        ["left", "alone", "by", "p:", "k", "left"],
    ]
    assert not any("layers" in line for line in lines)
