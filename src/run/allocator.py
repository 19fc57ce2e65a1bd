"""Settings of the C library's memory allocator."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 32 * 1024**2
NEVER = -1


def keep_freed_memory() -> bool:
    """Keep freed memory for later tensors instead of returning it to the system; returns whether this is supported.

    The activations of a batch on the CPU are hundreds of blocks of many megabytes. If they are returned after each
    update, page faults in the next update cost a tenth to a fifth of its time (Linux, glibc).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(M_TRIM_THRESHOLD, NEVER))
