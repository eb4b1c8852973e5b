"""The compression passes, one file each. A pass never imports another pass.

This folder lies beside the package and is imported as `graphshrink.passes`; under another name its classes would exist
twice.
"""

if __name__ != "graphshrink.passes":
    raise ImportError("import graphshrink.passes, not the folder passes/ by itself")
