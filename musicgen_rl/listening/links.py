"""The address that links of a study begin with."""

from urllib.parse import urlsplit

from musicgen_rl.errors import ConfigError


def base_address(address: str) -> str:
    """Check an address and bring it to the form links are made from.

    Args:
        address: such as https://study.example or https://lab.example/study/.

    Returns:
        The same without a slash at its end.

    Raises:
        ConfigError: it is no address of a web page, or holds more than host, port and path.
    """
    problem = ConfigError(
        f"--address must be such as https://study.example or https://lab.example/study, got "
        f"{address!r}"
    )
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises for what is no port
    except ValueError:
        raise problem from None
    plain = address.isascii() and address.isprintable() and " " not in address
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise problem
    if parts.query or parts.fragment or "?" in address or "#" in address or "@" in parts.netloc:
        raise problem
    return address.rstrip("/")
