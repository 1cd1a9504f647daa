"""Passwords for a page that others can reach: only their hashes are ever given to a command."""

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from musicgen_rl.errors import ConfigError

_COST = {"n": 2**14, "r": 8, "p": 1}  # 16 MB and about 50 ms a try
_SHORTEST = 8


@dataclass(frozen=True)
class Account:
    """A name and what its password is checked against."""

    user: str
    salt: bytes
    key: bytes


def hash_password(user: str, password: str) -> str:
    """Make what `--auth` takes.

    Args:
        user: a name without a colon.
        password: at least eight characters.

    Returns:
        "user:scrypt.SALT.KEY", with no character that a shell would read.

    Raises:
        ConfigError: no name, or too short a password.
    """
    if not user or ":" in user or not user.isprintable():
        raise ConfigError(f"the user name must be text without a colon, got {user!r}")
    if len(password) < _SHORTEST:
        raise ConfigError(f"a password needs at least {_SHORTEST} characters: choose a longer one")
    salt = secrets.token_bytes(16)
    return f"{user}:scrypt.{_text(salt)}.{_text(_key(password, salt))}"


def read_account(text: str) -> Account:
    """Read what `hash_password` made.

    Raises:
        ConfigError: it is something else; the message does not repeat it, as it may be a password.
    """
    user, _, hashed = text.partition(":")
    kind, *rest = hashed.split(".")
    try:
        salt, key = (base64.urlsafe_b64decode(part.encode()) for part in rest)
    except (ValueError, UnicodeEncodeError):
        salt = key = b""
    if not user or kind != "scrypt" or len(salt) != 16 or len(key) != 32:
        raise ConfigError(
            "an account is given as USER:HASH, not a password: `musicgen-rl demo "
            "--hash-password USER` asks for a password and prints it"
        )
    return Account(user, salt, key)


def checker(accounts: Sequence[Account]) -> Callable[[str, str], bool]:
    """Make the function that tells whether a name and a password belong together.

    It takes the same time whether the name is known or not.
    """
    nobody = Account("", bytes(16), secrets.token_bytes(32))

    def check(user: str, password: str) -> bool:
        account = next((a for a in accounts if a.user == user), nobody)
        same = hmac.compare_digest(_key(password, account.salt), account.key)
        return same and account is not nobody

    return check


def waiting_checker(
    accounts: Sequence[Account],
) -> Callable[[str, str], Coroutine[Any, Any, bool]]:
    """Make `checker`'s function for an event loop, which goes on while a password is worked on."""
    check = checker(accounts)

    async def wait(user: str, password: str) -> bool:
        return await asyncio.to_thread(check, user, password)

    return wait


def _key(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, dklen=32, **_COST)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()
