"""What a process that computes sets once for the whole of itself: threads, and what becomes of freed memory.

Knows torch and the C library; knows no engine.
"""

from __future__ import annotations

import ctypes

import torch
from threadpoolctl import threadpool_limits

#: glibc's names (mallopt, Linux man-pages): when free memory at the end of the heap goes back to the system,
#: and from which size on a block comes straight from it. The second may not be higher.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM_BYTES, _MMAP_BYTES = 2**30, 2**25


def settle_process(num_threads: int) -> None:
    """Set CPU threads and keep freed memory; called once, at the start of a process.

    `num_threads` is for torch. numpy's and scipy's products here are small, a head's features times three
    columns, and with a second BLAS thread they take ten times as long on a machine that has other work.
    """
    torch.set_num_threads(num_threads)
    threadpool_limits(1, user_api="blas")
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, up to a gibibyte, rather than return it at once.

    A forward frees and takes again megabytes at every layer, and memory that comes fresh from the system is
    zeroed page by page: a fifth of an int8 forward's time. False where the C library has no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc; on Windows None is no library
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)) and bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES))
