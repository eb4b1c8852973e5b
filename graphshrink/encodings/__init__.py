"""How weights are stored: exactly, in few bytes, as constants and standard operators that compute them."""

from graphshrink.encodings.base import Builder, Encoded, Encoding
from graphshrink.encodings.choose import ENCODINGS, Policy, Storage, best_encoding, policy_named
from graphshrink.encodings.codebook import DECODE_BYTES, group_counts, most_distinct, stored_bytes, table_bytes
from graphshrink.encodings.cost import Cost
from graphshrink.encodings.entropy import entropy_bits
from graphshrink.encodings.lift import Lifted, lift
from graphshrink.encodings.place import Stored, encode_graph
from graphshrink.encodings.spectral import most_ulps, stored_values

__all__ = [
    "DECODE_BYTES",
    "ENCODINGS",
    "Builder",
    "Cost",
    "Encoded",
    "Encoding",
    "Lifted",
    "Policy",
    "Storage",
    "Stored",
    "best_encoding",
    "encode_graph",
    "entropy_bits",
    "group_counts",
    "lift",
    "most_distinct",
    "most_ulps",
    "policy_named",
    "stored_bytes",
    "stored_values",
    "table_bytes",
]
