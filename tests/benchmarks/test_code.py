from pathlib import Path

import pytest

from benchmarks.frontier import code

FILES = {
    "house/tool.py": "from house.base import help\nimport json\nTOOLS: tuple = (1,)\ndef work(): return help()\n",
    "house/base.py": "import house\ndef help(): return 1\n",
    "house/__init__.py": "",
    "house/other.py": "def idle(): return 1\n",
}


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(code, "ROOT", tmp_path)
    for name, content in FILES.items():
        rewrite(tmp_path, name, content)
    return digest()


def rewrite(root: Path, name: str, content: str) -> None:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)


def digest() -> str:
    for cached in (code._read, code.digest_of_sources):  # pyright: ignore[reportPrivateUsage]
        cached.cache_clear()
    return code.digest_of_modules("house.tool")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("house/tool.py", "help()", "help() + 1", id="the module"),
        pytest.param("house/base.py", "return 1", "return 2", id="what it imports"),
        pytest.param("house/__init__.py", "", "x = 1", id="what that imports"),
    ],
)
def test_code_that_counts(before: str, tmp_path: Path, name: str, old: str, new: str) -> None:
    rewrite(tmp_path, name, FILES[name].replace(old, new) if old else new)
    assert digest() != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("house/tool.py", "(1,)", "(1, 2)", id="the table of settings"),
        pytest.param("house/base.py", "import house\n", "import house  # a word\n\n", id="comments and layout"),
        pytest.param("house/other.py", "return 1", "return 2", id="what is not imported"),
    ],
)
def test_code_that_does_not_count(before: str, tmp_path: Path, name: str, old: str, new: str) -> None:
    rewrite(tmp_path, name, FILES[name].replace(old, new))
    assert digest() == before


def test_folders_count_with_all_their_files(before: str, tmp_path: Path) -> None:
    whole = code.digest_of_sources("house")
    rewrite(tmp_path, "house/other.py", "def idle(): return 2\n")
    assert digest() == before
    assert code.digest_of_sources("house") != whole
