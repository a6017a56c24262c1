"""References to secrets as they stand in ledger.yaml: `${NAME}`, `${env:NAME}`, `${file:/path}`, `${aws:id#key}`, `${vault:mount/path#key}`.

Pure: texts are read and put together here, nothing is fetched. A reference may be shown to anybody; what it leads to may not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Scheme = Literal["env", "file", "aws", "vault"]
SCHEMES: tuple[Scheme, ...] = ("env", "file", "aws", "vault")

_PLACE = re.compile(r"\$\{([^}]+)\}")
_VARIABLE = re.compile(r"(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
_VAULT = re.compile(r"(?P<mount>[^/\s#]+)/(?P<path>[^\s#]*[^\s#/])")
_KNOWN = "write ${NAME}, ${NAME:-default}, ${file:/path}, ${aws:id#key} or ${vault:mount/path#key}"


class BadReference(ValueError):
    """A `${…}` that can't be read; the message shows it without a default."""


class SecretError(Exception):
    """A secret that can't be had, by its reference. `is_transient`: its manager wasn't reached, so that trying later can help."""

    def __init__(self, reference: Reference, message: str, *, is_transient: bool = False) -> None:
        super().__init__(f"{reference}: {message}" if reference.scheme != "env" else message)
        self.reference, self.message = reference, message
        self.is_transient = is_transient


@dataclass(frozen=True, slots=True)
class Reference:
    """`place` is the variable's name, the file's path, AWS' secret id or `mount/path`; `key` a field of a secret that has several."""

    scheme: Scheme
    place: str
    key: str = ""
    default: str | None = None

    def __str__(self) -> str:
        return f"${{{self.scheme}:{self.place}{'#' if self.key else ''}{self.key}}}"

    @property
    def mount(self) -> str:
        """Vault: the secrets engine's mount."""
        return self.place.partition("/")[0]

    @property
    def path(self) -> str:
        """Vault: the path below the mount."""
        return self.place.partition("/")[2]


def read(inner: str) -> Reference:
    """What stands between `${` and `}`; raises BadReference."""
    variable = _VARIABLE.fullmatch(inner)
    if variable:
        return Reference("env", variable["name"], default=variable["default"])
    shown = f"${{{inner.partition(':-')[0][:80]}}}"
    scheme, colon, rest = inner.partition(":")
    if not colon or scheme not in SCHEMES or scheme == "env":
        raise BadReference(f"{shown} is no reference; {_KNOWN}")
    if ":-" in rest:
        raise BadReference(f"{shown}: only a variable may have a default")
    if scheme == "file":
        if not rest.startswith("/"):
            raise BadReference(f"{shown}: the file's path must begin with /")
        return Reference("file", rest)
    place, hash_, key = rest.partition("#")
    if not place or (hash_ and not key):
        raise BadReference(f"{shown}: {'the secret' if not place else 'the key after #'} is missing")
    if scheme == "aws":
        return Reference("aws", place, key)
    if not _VAULT.fullmatch(place) or not key:
        raise BadReference(f"{shown}: Vault's are written ${{vault:mount/path#key}}")
    return Reference("vault", place, key)


def references(node: Any) -> Iterator[Reference]:
    """All references in texts, also inside lists and mappings, in order; raises BadReference."""
    if isinstance(node, str):
        for match in _PLACE.finditer(node):
            yield read(match[1])
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from references(value)


def replaced(node: Any, value_of: Callable[[Reference], str]) -> Any:
    """The same with every reference replaced; raises BadReference, and whatever `value_of` does."""
    if isinstance(node, str):
        return _PLACE.sub(lambda match: value_of(read(match[1])), node)
    if isinstance(node, Mapping):
        return {str(k): replaced(v, value_of) for k, v in node.items()}
    if isinstance(node, list | tuple):
        return [replaced(v, value_of) for v in node]
    return node
