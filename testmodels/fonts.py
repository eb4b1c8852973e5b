"""The DejaVu fonts, from the Debian package `fonts-dejavu-core`: fetched once into the cache folder."""

from pathlib import Path

from testmodels.fetching import cache_folder, debian_files

PACKAGE = "fonts-dejavu-core"
_FOLDER = "/usr/share/fonts/truetype/dejavu"
_SHA256 = {
    "DejaVuSans-Bold.ttf": "0d977336a6d5fba34eab8e3199eb218327161b5143749f802982c2bc34df0c96",
    "DejaVuSans.ttf": "abdc775b21b1bc470d50c97e790d276f2054b7504e56e5bd3e64f48d68582322",
    "DejaVuSansMono-Bold.ttf": "2964f6dac8e6e9d71613928340f17bf868e9ea51692cca333c79e74962f02233",
    "DejaVuSansMono.ttf": "0f5db4f1749979d961019838b160bec74abdf7f9eca69553fe1aa856bbff49a4",
    "DejaVuSerif-Bold.ttf": "e2fd85eba2de65ac270d1cdb1685e252eb827f600850cf62af2d20c41b22e945",
    "DejaVuSerif.ttf": "13e61509f5c81d7c3132810f4f903e3523df89c802bf6e0674621e8f659cdfe1",
}
FACES = tuple(_SHA256)


def dejavu(*faces: str) -> dict[str, Path]:
    """The files of some faces, or of all, by name."""
    sha256_of = {f"{_FOLDER}/{face}": _SHA256[face] for face in faces or FACES}
    paths = debian_files(PACKAGE, sha256_of, into=cache_folder() / "dejavu")
    return {path.name: path for path in paths.values()}
