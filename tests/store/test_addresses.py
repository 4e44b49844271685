"""What URLs of servers mean, and what is no such URL."""

from __future__ import annotations

import pytest

from flowq.errors import InvalidValue
from flowq.store.addresses import address_of
from flowq.store.connection import Connection


def test_a_plain_url_is_one_server() -> None:
    for url in ("redis://localhost", "rediss://user:pw@host:6380/2", "unix:///run/valkey.sock"):
        assert (address_of(url).kind, address_of(url).url) == ("server", url)


def test_a_cluster_is_known_by_some_of_its_nodes() -> None:
    address = address_of("rediss+cluster://user:p%40w@one:7000,two,[::1]:7002?ssl_cert_reqs=none")
    assert (address.kind, address.hosts) == ("cluster", (("one", 7000), ("two", 6379), ("::1", 7002)))
    assert address.of(("three", 1)) == "rediss://user:p%40w@three:1/0?ssl_cert_reqs=none"
    assert address.of(("::1", 1)) == "rediss://user:p%40w@[::1]:1/0?ssl_cert_reqs=none"


def test_sentinels_have_users_of_their_own() -> None:
    address = address_of("redis+sentinel://:pw@one,two:26380/flows/3?sentinel_username=s&sentinel_password=x/y")
    assert (address.kind, address.service, address.hosts) == ("sentinel", "flows", (("one", 26379), ("two", 26380)))
    assert address.of(("three", 1)) == "redis://:pw@three:1/3?"
    assert address.of_sentinel(("one", 2)) == "redis://s:x%2Fy@one:2/?"


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("redis+cluster://", "redis+cluster://host:6379,host:6379"),
        ("redis+cluster://one:7000,,two", "redis+cluster://host:6379,host:6379"),
        ("redis+cluster://one:70000", "redis+cluster://host:6379,host:6379"),
        ("redis+cluster://one:7000/1", "a cluster, which has no databases"),
        ("redis+sentinel://one:26379", "and the name of what they watch"),
        ("redis+sentinel://one:26379/flows/first", "and the name of what they watch"),
        ("redis+cluster:one", "redis+cluster://host:6379,host:6379"),
        ("redis+clusters://one", "redis://host:6379/0"),
        ("http://one", "redis+sentinel://host:26379,host:26379/service"),
    ],
)
def test_what_is_no_such_url_is_refused_with_the_form_it_should_have(url: str, form: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        address_of(url)
    assert form in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://one?socket_timeout=5", "expected one of db, username, password; with rediss:// also those of TLS"),
        ("redis://one?ssl_ca_certs=ca.pem", "with rediss:// also those of TLS"),
        ("rediss://one?ssl_ca_cert=ca.pem", "ssl_ca_certs"),
        ("unix:///run/valkey.sock?protocol=3", "expected one of db, username, password"),
        ("redis+cluster://one?db=1", "expected one of username, password"),
        ("unix:///run/valkey.sock?password=ge&heim", "server URL is '***'"),
        ("redis+sentinel://one/flows?sentinel_user=s", "sentinel_username"),
    ],
)
def test_an_option_that_no_server_can_have_is_refused_with_those_that_it_can_have(url: str, expected: str) -> None:
    with pytest.raises(InvalidValue, match="option of the server URL") as refusal:
        address_of(url)
    assert expected in str(refusal.value)


def test_an_option_with_a_value_that_it_can_not_have_is_refused_and_hides_passwords() -> None:
    for url in ("redis://:hidden@one?db=first", "rediss://:hidden@one?ssl_cert_reqs=perhaps"):
        with pytest.raises(InvalidValue, match="expected other options") as refusal:
            Connection(url)
        assert "hidden" not in str(refusal.value)


def test_a_refused_url_hides_its_passwords() -> None:
    with pytest.raises(InvalidValue) as refusal:
        address_of("redis+sentinel://user:hidden@one:26379?sentinel_password=hidden")
    assert "hidden" not in str(refusal.value)
