"""The page that a child and its supervisor share: written without a system call, read however stuck the child is."""

from __future__ import annotations

import errno
import math
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from flowq.engine.process.pulse import Pulse
from tests.engine.processes import ROOT, running_python, said


@pytest.fixture
def pulse() -> Iterator[Pulse]:
    created = Pulse.create()
    yield created
    created.close()


def test_a_fresh_pulse_is_young_and_idle(pulse: Pulse) -> None:
    assert 0 <= pulse.age() < 30
    assert (pulse.running, pulse.overdue(), pulse.culprit) == (0, 0.0, "")


def test_both_sides_see_one_page(pulse: Pulse) -> None:
    child = Pulse.attach(os.dup(pulse.fd))
    child.beat(running=3, earliest_deadline=time.monotonic() - 5)
    child.enter("encode-480")
    assert (pulse.running, pulse.culprit) == (3, "encode-480")
    assert 5 <= pulse.overdue() < 35
    child.leave()
    child.beat(running=0, earliest_deadline=math.inf)
    assert (pulse.culprit, pulse.overdue()) == ("", 0.0)
    child.close()


def test_the_age_grows_until_the_next_beat(pulse: Pulse) -> None:
    first = pulse.age()
    while pulse.age() <= first:
        pass
    grown = pulse.age()
    pulse.beat(running=0, earliest_deadline=math.inf)
    assert pulse.age() < grown or grown < 0.001


def test_a_shorter_name_leaves_nothing_of_a_longer_one(pulse: Pulse) -> None:
    pulse.enter("transcribe")
    pulse.enter("cut")
    assert pulse.culprit == "cut"


def test_a_name_that_is_too_long_is_cut(pulse: Pulse) -> None:
    pulse.enter("x" * 10_000)
    assert pulse.culprit == "x" * 512


def test_attaching_closes_the_descriptor_so_that_no_stage_finds_it(pulse: Pulse) -> None:
    descriptor = os.dup(pulse.fd)
    child = Pulse.attach(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert child.fd == -1
    child.close()


_REFUSED = """
import os, resource
from flowq.engine.process.pulse import Pulse

before, (_, hard) = os.listdir("/proc/self/fd"), resource.getrlimit(resource.RLIMIT_NOFILE)
for more in (0, 1):
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) - 1 + more, hard))
    try:
        Pulse.create()
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        print(error.errno, os.listdir("/proc/self/fd") == before)
"""


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="elsewhere the page is a file, whose mapping takes no descriptor")
def test_a_page_for_which_there_are_too_few_descriptors_leaves_none_open() -> None:
    with running_python(_REFUSED) as process:
        assert [said(process) for _ in range(2)] == [f"{errno.EMFILE} True"] * 2


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux can seal a file")
def test_a_child_can_not_cut_the_page_short(pulse: Pulse) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(pulse.fd, 0)


def test_a_page_full_of_rubbish_is_read_without_an_error(pulse: Pulse) -> None:
    child = Pulse.attach(os.dup(pulse.fd))
    for rubbish in (b"\xff" * 4096, b"\x00" * 4096, struct.pack("ddd", math.nan, math.nan, -math.inf) + b"\xfe" * 1000):
        child._page[: len(rubbish)] = rubbish
        assert isinstance(pulse.culprit, str)
        assert not math.isnan(pulse.age())
        assert not math.isnan(pulse.overdue())
        assert pulse.running >= 0
    child.close()


def test_the_culprit_is_readable_while_the_child_hangs_and_after_it_was_killed(pulse: Pulse) -> None:
    source = (
        "import math, sys\n"
        "from flowq.engine.process.pulse import Pulse\n"
        "pulse = Pulse.attach(int(sys.argv[1]))\n"
        "pulse.beat(running=1, earliest_deadline=math.inf)\n"
        "pulse.enter('hanging')\n"
        "print('hangs', flush=True)\n"
        "while True: pass\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", source, str(pulse.fd)], pass_fds=[pulse.fd], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"hangs\n"
        assert (pulse.culprit, pulse.running) == ("hanging", 1)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert pulse.culprit == "hanging"
