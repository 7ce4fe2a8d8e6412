"""A process that computes keeps the memory that it frees, and small products on one thread."""

import ctypes
import os
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
        told = subprocess.run(command, capture_output=True, check=True, text=True, env=os.environ | fresh)
        return int(told.stdout)

    # By itself glibc moves this limit as it goes, and what comes back depends on what else lies in the heap.
    fresh = {"MALLOC_MMAP_THRESHOLD_": "1000000"}

    # 60 blocks of 8 MB are 120,000 pages; two of them are there at once.
    assert num_faults("settled") < 10_000 < num_faults("as it comes")


_TELL_THREADS = """
import scipy.linalg
import torch
from threadpoolctl import threadpool_info
from scoring.engines.torch import settle_process

settle_process(2)
pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
print(torch.get_num_threads(), set(pools))
"""


_TELL_CREW = """
from threadpoolctl import threadpool_info

if __name__ == "__main__":
    from scoring.merging.crew import crew

    with crew(2) as workers:
        print({pool["num_threads"] for pool in workers.pool.submit(threadpool_info).result()})
"""


def test_a_crew_works_on_one_thread_each(tmp_path):
    script = tmp_path / "crew.py"
    script.write_text(_TELL_CREW)
    many = {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(script)]
    told = subprocess.run(command, capture_output=True, check=True, text=True, env=os.environ | many)
    assert told.stdout.strip() == "{1}"


def test_numpy_has_one_thread_whatever_torch_has():
    command = [sys.executable, "-c", _TELL_THREADS]
    told = subprocess.run(
        command, capture_output=True, check=True, text=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    )
    assert told.stdout.split() == ["2", "{1}"]
