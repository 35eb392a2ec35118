"""What work reaches of a card's peaks, and what lies beside it: assumptions, each with its reason.

Measured rates (`rates.py`) replace all of them.
"""

from __future__ import annotations

MATMUL_SHARE = 0.5
HALF_WIDTH = 2000.0


def matmul_share(hidden: int) -> float:
    """Share of the peak that passes over many tokens reach in their matrices: 0.5 x hidden /
    (hidden + 2000). Narrow layers leave a GPU waiting for launches and memory.

    With `ATTENTION_SHARE` it gives what published learners reach (docs/planning.md has them).
    """
    return MATMUL_SHARE * hidden / (hidden + HALF_WIDTH)


ATTENTION_SHARE = 0.45
"""Of the peak, by attention's kernels over long rows, whatever the width of the layers."""
DECODE_MATMUL_SHARE = 0.4
"""Of the peak, by passes over a token of each of some hundred sequences."""
BANDWIDTH_SHARE = 0.65
"""Of the memory's bandwidth, by a pass that reads all weights and keys."""
LINK_SHARE = 0.7
"""Of a link's, by collectives of large buffers."""
PASS_OVERHEAD_S = 4e-3
"""Of an engine, in each pass beside the device's work: scheduling, and taking in what was drawn.
It is not hidden, because passes are in turn."""
SEQUENCE_OVERHEAD_S = 15e-6
"""Of the same, for each sequence of a pass."""
COLLECTIVE_S = 20e-6
"""What a collective takes at least."""
NETWORK = 12.5
"""Between nodes, each way, GB/s: 100 Gbit/s."""
STORE = 1.0
"""Of weights through the object store, GB/s, all steps together."""
STORAGE = 1.0
"""Of a checkpoint to the run folder, GB/s."""
HOST_MEMORY = 50.0
"""Of the host's memory, for an optimiser there, GB/s."""
