"""Who does how much: a step's slots cut into contiguous shares, for processes and for micro-batches.

Pure arithmetic; imports nothing, so that whoever prepares data may use it too.
"""


def shares(total: int, parts: int, multiple: int = 1) -> list[slice]:
    """`total` slots in `parts` contiguous shares, as even as can be, the larger ones first.

    multiple: every share but the last one that holds any begins and ends at a multiple of this (groups of batch norm
    must not be cut). Shares can be empty where there are fewer groups than parts.
    """
    groups = -(-total // multiple)
    each, more = divmod(groups, parts)
    ends = [min(total, multiple * (each * (i + 1) + min(i + 1, more))) for i in range(parts)]
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
