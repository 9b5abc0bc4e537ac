"""Threads, forks, interpreters, and what importing costs."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import lowbit
from conftest import same

LARGE = np.random.default_rng(2).standard_normal(1 << 20).astype(np.float32)


def test_sixteen_threads_on_one_array():
    """All read one array, and each rounds its own part of another in place."""
    expected = lowbit.quantize(LARGE, "e4m3", "stochastic(seed=1)")
    shared, parts, failures = LARGE.copy(), 16, []

    def work(i):
        for _ in range(5):
            if not same(lowbit.quantize(LARGE, "e4m3", "stochastic(seed=1)"), expected):
                failures.append(i)
        part = shared.reshape(parts, -1)[i]
        lowbit.quantize(part, "mxfp4", out=part)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(parts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert same(shared, lowbit.quantize(LARGE, "mxfp4"))


def test_other_threads_run_meanwhile():
    """While a thread rounds, this one counts."""
    x = np.tile(LARGE, 8)
    done = threading.Event()

    def work():
        for _ in range(10):
            lowbit.quantize(x, "nf4", out=x)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    counted = 0
    while not done.is_set():
        counted += 1
        time.sleep(0.0005)
    thread.join()
    assert counted > 5


def test_numbers_do_not_depend_on_threads():
    code = (
        "import lowbit, numpy, sys\n"
        "x = numpy.random.default_rng(2).standard_normal(1 << 18).astype('f4')\n"
        "if sys.argv[1] != '0': lowbit.set_num_threads(int(sys.argv[1]))\n"
        "y = [lowbit.quantize(x, f, 'stochastic').tobytes() for f in ('e4m3', 'nvfp4', 'bfp(8)')]\n"
        "import hashlib; print(lowbit.get_num_threads(), hashlib.sha256(b''.join(y)).hexdigest())\n"
    )
    found = [run(code, str(threads)).split() for threads in (0, 1, 7)]
    assert [threads for threads, _ in found[1:]] == ["1", "7"]
    assert len({digest for _, digest in found}) == 1


def run(code, *arguments, seconds=60):
    call = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(call, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_forked_workers():
    """Four workers of a process whose threads are at work, and a worker of a worker."""
    code = (
        "import os, threading, lowbit, numpy\n"
        "x = numpy.random.default_rng(2).standard_normal(1 << 20).astype('f4')\n"
        "half = x.astype('f2')\n"
        "work = lambda: [lowbit.quantize(x, f, 'stochastic').tobytes() for f in ('e4m3', 'nvfp4')] "
        "+ [lowbit.quantize(half, 'e5m2').tobytes()]\n"
        "expected = work()\n"
        "busy = threading.Thread(target=lambda: [work() for _ in range(20)])\n"
        "busy.start()\n"
        "def child(depth):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        good = work() == expected and (depth == 0 or child(depth - 1) == 0)\n"
        "        os._exit(0 if good else 1)\n"
        "    return os.waitpid(pid, 0)[1]\n"
        "print([child(1) for _ in range(4)])\n"
        "busy.join()\n"
    )
    assert run(code).strip() == "[0, 0, 0, 0]"


def test_multiprocessing_workers():
    code = (
        "import multiprocessing, lowbit, numpy\n"
        "def work(i):\n"
        "    x = numpy.random.default_rng(i).standard_normal(1 << 18).astype('f4')\n"
        "    return lowbit.quantize(x, 'bfp(8)').tobytes()\n"
        "here = [work(i) for i in range(4)]\n"
        "with multiprocessing.get_context('fork').Pool(4) as pool:\n"
        "    print(pool.map(work, range(4)) == here)\n"
    )
    assert run(code).strip() == "True"


def test_sub_interpreters_are_refused():
    """In one line that says so, not by a crash."""
    interpreters = pytest.importorskip("_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters")
    import_it = "try:\n import lowbit\nexcept ImportError as error:\n print(type(error).__name__, error, flush=True)\n"
    code = (
        f"import {interpreters.__name__} as interpreters, lowbit\n"
        "other = interpreters.create()\n"
        f"interpreters.run_string(other, {import_it!r})\n"
    )
    found = run(code)
    assert found.startswith("ImportError") and "interpreter" in found and len(found.splitlines()) == 1


def test_import_is_quick_and_brings_nothing():
    """Under 50 ms, and neither numpy nor torch is loaded."""
    code = (
        "import sys, time; start = time.perf_counter(); import lowbit; "
        "print(time.perf_counter() - start, 'numpy' in sys.modules, 'torch' in sys.modules)"
    )
    found = [run(code).split() for _ in range(3)]
    assert all(line[1:] == ["False", "False"] for line in found)
    assert min(float(line[0]) for line in found) < 0.05
