"""How the C library treats freed memory."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 32 * 1024**2
NEVER = -1


def keep_freed_memory() -> bool:
    """Keep freed blocks for the next tensors instead of giving them back; returns whether that is possible here.

    Activations of a batch on the CPU are hundreds of blocks of many megabytes. Given back after each update, they cost
    the next one a page fault every four kilobytes: a tenth to a fifth of its time (Linux, glibc).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(M_TRIM_THRESHOLD, NEVER))
