"""The frontier: what today's tools, and graphshrink, make of the corpus; score against bytes.

| file | what it does |
|---|---|
| `__main__.py` | the command line |
| `steps.py` | what runs in a process of its own: compress, score, measure |
| `code.py` | which code a step's result depends on |
| `store.py` | runs a step once, within limits, and keeps its outcome |
| `plan.py` | which steps a model and a tool need, in order, and what comes of them |
| `choose.py` | which setting of a tool counts |
| `progress.py` | lines with an estimate |
| `report.py`, `picture.py` | tables and pictures of the results |
"""
