"""python -m graphshrink."""

from graphshrink.cli import main

main()
