"""`flowq limits` and `flowq tenants`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from flowq.cli.commands.limits import _next
from tests.cli.terminal import Ran

Run = Callable[..., Ran]


def test_a_limit_is_set_shown_and_removed(run: Run) -> None:
    assert run("limits", "set", "openai", "--rate", "requests=100/m", "--rate", "tokens=2000/m", "--concurrency", "10").code == 0
    shown = run("limits")
    assert "100 requests a minute, 2,000 tokens a minute, 10 at once" in " ".join(shown.out.split())
    (found,) = json.loads(run("limits", "--json").out)["data"]
    assert (found["name"], found["rule"]["concurrency"], found["held"], found["next_at"]) == ("openai", 10, 0, None)
    assert run("limits", "remove", "openai").code == 0
    assert run("limits", "remove", "openai").code == 3
    assert "no limits" in run("limits").err


@pytest.mark.parametrize("first", ["requests=100/m", "100/m"])
def test_two_rates_of_the_same_are_refused(run: Run, first: str) -> None:
    ran = run("limits", "set", "twice", "--rate", first, "--rate", "requests=5/s")
    assert (ran.code, "--rate says twice how many requests there may be: 100/m and 5/s" in ran.err) == (2, True), ran
    assert "twice" not in run("limits").out


def test_a_weight_is_set_and_shown(run: Run) -> None:
    assert "all tenants have weight 1" in run("tenants").err
    assert "acme" in run("tenants", "weight", "acme", "3").out
    assert json.loads(run("tenants", "--json").out)["data"] == {"acme": {"weight": 3.0}}
    assert run("tenants", "weight", "acme", "1").code == 0
    assert json.loads(run("tenants", "--json").out)["data"] == {}


@pytest.mark.parametrize(
    "words",
    [
        ("limits", "set"), ("limits", "list", "x"), ("limits", "remove", "x", "--rate", "1/m"), ("limits", "set", "x"),
        ("limits", "set", "x", "--rate", "often"), ("tenants", "weight", "acme"), ("tenants", "weight", "acme", "0"),
        ("tenants", "list", "acme", "2"), ("worker", "tests.cli.flows", "--has", "gpu"),
        ("worker", "tests.cli.flows", "--has", "gpu=some"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).code == 2


@pytest.mark.parametrize("owner", ["queue", "tenant"])
def test_a_limit_of_no_queue_or_tenant_is_refused(run: Run, owner: str) -> None:
    ran = run("limits", "set", f"{owner}:", "--concurrency", "2")
    assert (ran.code, f"limit is '{owner}:'" in ran.err, f"the name of a {owner}" in ran.err) == (2, True, True)
    assert run("limits", "remove", f"{owner}:").code == 3


@pytest.mark.parametrize(("owner", "most"), [("queue", 122), ("tenant", 121)])
def test_how_long_the_name_of_a_queue_or_tenant_may_be_that_is_limited_is_told(run: Run, owner: str, most: int) -> None:
    name = f"{owner}:" + "n" * most
    assert run("limits", "set", name, "--concurrency", "2").code == 0
    assert run("limits", "remove", name).code == 0
    ran = run("limits", "set", name + "n", "--concurrency", "2")
    told = f"at most {most} characters after '{owner}:', which are {most + 1} here"
    assert (ran.code, told in ran.err) == (2, True), ran


@pytest.mark.parametrize("name", ["Queue:gpu", "TENANT:acme"])
def test_what_looks_like_the_limit_of_a_queue_or_tenant_and_is_none_is_refused(run: Run, name: str) -> None:
    ran = run("limits", "set", name, "--concurrency", "2")
    told = f"'{name.partition(':')[0].lower()}:' in small letters"
    assert (ran.code, told in ran.err) == (2, True), ran
    assert run("limits", "remove", name).code == 3, "it could be set once"


def test_when_a_limit_allows_the_next_one_is_told_with_its_date() -> None:
    assert _next(1_900_000_000_000) == "2030-03-17 17:46:40Z"
    assert _next(None) == ""
