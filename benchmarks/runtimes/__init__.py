"""Whether files that graphshrink wrote give the same bits in other runtimes."""
