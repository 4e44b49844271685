"""URLs of servers: one alone, a cluster, or one that a Sentinel names. Checked here, before anything is asked.

    redis://user:password@host:6379/0                             one server; unix:///path/to/socket
    redis+cluster://user:password@host:6379,host:6379             a cluster, by some of its nodes
    redis+sentinel://user:password@host:26379,host:26379/name/0   the primary of that name, by its Sentinels

`rediss` instead of `redis` is TLS, to all of them. User and password are those of the servers; Sentinels that want some get
`?sentinel_username=…&sentinel_password=…`. The spelling is what other Python libraries use.
"""

from __future__ import annotations

import re
from typing import Literal, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from flowq.errors import InvalidValue, masked

_SEVERAL = re.compile(r"(rediss?)\+(cluster|sentinel)://(?:([^@/?#]*)@)?([^@/?#]*)(?:/([^?#]*))?(?:\?([^#]*))?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::(\d{1,5}))?")
_ONE = "redis://host:6379/0, rediss://host:6379/0 or unix:///path/to/socket"
_FORMS = {
    "": f"{_ONE}; redis+cluster://host:6379,host:6379 or redis+sentinel://host:26379,host:26379/service",
    "cluster": "redis+cluster://host:6379,host:6379: the nodes of a cluster, which has no databases",
    "sentinel": "redis+sentinel://host:26379,host:26379/service: Sentinels, and the name of what they watch",
}
_PORTS = {"cluster": 6379, "sentinel": 26379}
_OF_SENTINELS = "sentinel_"
# What may stand behind a URL. How long an answer may take, and how the server is spoken to, flowq says itself.
_OPTIONS = {
    "": ("db", "username", "password"),
    "cluster": ("username", "password"),
    "sentinel": ("db", "username", "password", "sentinel_username", "sentinel_password"),
}
_OPTIONS_OF_TLS = tuple(
    f"ssl_{name}"
    for name in ("ca_certs", "ca_data", "ca_path", "cert_reqs", "certfile", "check_hostname", "ciphers", "keyfile", "password")
)

Host = tuple[str, int]


class Address(msgspec.Struct, frozen=True):
    """What a URL means.

    Attributes:
        kind: `server` for one server alone.
        url: as it was given.
        hosts: of `cluster` and `sentinel`: whom to ask first.
        service: of `sentinel`: the name of what they watch.
    """

    kind: Literal["server", "cluster", "sentinel"]
    url: str
    hosts: tuple[Host, ...] = ()
    service: str = ""
    scheme: str = "redis"
    login: str = ""
    database: str = "0"
    options: dict[str, str] = {}

    def of(self, host: Host) -> str:
        """The URL of one server of several."""
        options = urlencode({name: value for name, value in self.options.items() if not name.startswith(_OF_SENTINELS)})
        return f"{self.scheme}://{self.login}{named(host)}/{self.database}?{options}"

    def of_sentinel(self, host: Host) -> str:
        """The URL of one Sentinel: it has users of its own, and TLS as the servers have it."""
        user, password = (quote(self.options.get(_OF_SENTINELS + name, ""), "") for name in ("username", "password"))
        options = urlencode({name: value for name, value in self.options.items() if name.startswith("ssl_")})
        return f"{self.scheme}://{f'{user}:{password}@' if user or password else ''}{named(host)}/?{options}"


def named(host: Host) -> str:
    """`host:port`, as it stands in URLs and in messages."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def address_of(url: str) -> Address:
    """What a URL means.

    Raises:
        InvalidValue: another scheme, a port out of range, no path for `unix://`, no name of what Sentinels watch; an option that
            no server can have.
    """
    found = _SEVERAL.fullmatch(url) if isinstance(url, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found is None:
        return Address("server", _checked(url))
    scheme, kind, login, hosts, path, query = (part or "" for part in found.groups())
    problem = InvalidValue("server URL", masked(url), _FORMS[kind])
    matches = [_HOST.fullmatch(host) for host in hosts.split(",")]
    listed = tuple((found[1].strip("[]"), int(found[2] or _PORTS[kind])) for found in matches if found is not None)
    service, _, database = path.strip("/").partition("/")
    if len(listed) < len(matches) or any(not 0 < port < 65_536 for _, port in listed):
        raise problem
    if (kind == "cluster" and service.strip("0")) or (kind == "sentinel" and not service):
        raise problem
    if database and not (kind == "sentinel" and database.isdecimal()):
        raise problem
    kind = cast("Literal['cluster', 'sentinel']", kind)
    login = f"{login}@" if login else ""
    return Address(kind, url, listed, service, scheme, login, database or "0", _options_in(query, kind, scheme))


def _options_in(query: str, kind: str, scheme: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = (*_OPTIONS[kind], *(_OPTIONS_OF_TLS if scheme == "rediss" else ()))
    for name in options:
        if name not in known:
            more = "; with rediss:// also those of TLS" if scheme == "redis" else ""
            # It may be the rest of a password with an `&`.
            shown = "***" if "password" in query else name
            raise InvalidValue("option of the server URL", shown, f"one of {', '.join(known)}{more}")
    return options


def _checked(url: str) -> str:
    kind = next((kind for kind in ("cluster", "sentinel") if f"+{kind}:" in str(url)), "")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 — raises where the port is no port
    except (ValueError, AttributeError):
        raise InvalidValue("server URL", masked(str(url)), _FORMS[kind]) from None
    is_socket = parts.scheme == "unix" and len(parts.path) > 1
    if not is_socket and not (parts.scheme in ("redis", "rediss") and parts.hostname):
        raise InvalidValue("server URL", masked(url), _FORMS[kind])
    if parts.path.strip("/") and not is_socket and not parts.path.strip("/").isdecimal():
        raise InvalidValue("server URL", masked(url), _FORMS[kind])
    _options_in(parts.query, "", parts.scheme)
    return url
