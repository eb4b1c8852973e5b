"""How weights are stored: exactly, in few bytes, as constants and standard operators that compute them."""

from graphshrink.encodings.choose import ENCODINGS, Policy, Stored, best_encoding, encode_graph, policy_named
from graphshrink.encodings.lift import Lifted, lift

__all__ = ["ENCODINGS", "Lifted", "Policy", "Stored", "best_encoding", "encode_graph", "lift", "policy_named"]
