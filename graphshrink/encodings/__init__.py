"""How weights are stored: exactly, in few bytes, as constants and standard operators that compute them."""

from graphshrink.encodings.choose import ENCODINGS, Policy, Stored, best_encoding, encode_graph, policy_named
from graphshrink.encodings.codebook import DECODE_BYTES, group_counts, stored_bytes
from graphshrink.encodings.lift import Lifted, lift

__all__ = [
    "DECODE_BYTES",
    "ENCODINGS",
    "Lifted",
    "Policy",
    "Stored",
    "best_encoding",
    "encode_graph",
    "group_counts",
    "lift",
    "policy_named",
    "stored_bytes",
]
