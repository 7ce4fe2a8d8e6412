"""A process that computes keeps the memory that it frees."""

import ctypes
import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource, sys
import torch
from scoring.engines.torch import settle_process

if sys.argv[1] == "settled":
    settle_process(1)
for _ in range(3):
    torch.ones(2_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2_000_000) + torch.ones(2_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_memory_is_not_fetched_anew():
    def num_faults(way):
        command = [sys.executable, "-c", _COUNT_FAULTS, way]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    # 60 blocks of 8 MB are 120,000 pages; two of them are there at once.
    assert num_faults("settled") < 10_000 < num_faults("as it comes")
