"""What work reaches of a card's peaks, and what lies beside it: assumptions, each with its reason.

Measured rates (`rates.py`) replace all of them.
"""

from __future__ import annotations

MATMUL_SHARE = 0.5
HALF_WIDTH = 1200.0


def matmul_share(hidden: int) -> float:
    """Share of the peak that passes over many tokens reach, in training and over prompts.

    0.5 x hidden / (hidden + 1200): narrow layers leave a GPU waiting for launches and memory. The
    curve goes through what a published learner reached at width 1024 on an H100 (16.8 % counted
    without the layers that it computes twice, 22 % with them), and below what wider ones reach.
    """
    return MATMUL_SHARE * hidden / (hidden + HALF_WIDTH)


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
