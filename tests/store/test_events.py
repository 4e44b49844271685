"""The entries of the event stream."""

from __future__ import annotations

import re
from importlib import resources
from typing import get_args

import msgspec
import pytest

from flowq.model.event import Verb
from flowq.store.events import VERB_OF, WireEvent, events_of


def test_scripts_and_python_name_verbs_by_the_same_letters() -> None:
    text = resources.files("flowq.store").joinpath("scripts", "emit.lua").read_text("utf-8")
    letters = dict(re.findall(r"(\w+) = \{'(\w)', \{\}, \{\}\}", text))
    assert {verb: letter for letter, verb in VERB_OF.items()} == letters
    assert set(letters) == set(get_args(Verb)) - {"held"}  # which is told by no script


def test_an_entry_is_read() -> None:
    data = msgspec.msgpack.encode(
        [7, "w1", "f1", 3, "c0.1", "", "", 4, "d2.0", ["later", 90, -1], "f2", 1, "x1.1", "", "", 0, "g1.1", ["half", 0, 0.5]]
    )
    assert events_of(data) == [
        WireEvent("f1", 3, "completed", 0, 7, 1, ""),
        WireEvent("f1", 4, "delayed", 2, 7, 0, "later", 90),
        WireEvent("f2", 1, "claimed", 1, 7, 1, "w1"),
        WireEvent("f2", 0, "progressed", 1, 7, 1, "half", 0, 0.5),
    ]


@pytest.mark.parametrize(
    "damaged", [b"\xc1", b"", msgspec.msgpack.encode([7]), msgspec.msgpack.encode([7, "", "f1", 1, "q1.1", ""])]
)
def test_what_is_no_entry_is_refused(damaged: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        events_of(damaged)
