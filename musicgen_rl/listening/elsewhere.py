"""A study whose answers are not in its folder: which database has them, written down beside it."""

from pathlib import Path

from sqlalchemy.engine import URL, make_url

from musicgen_rl.errors import InputError
from musicgen_rl.listening.files import read_json, write_json
from musicgen_rl.listening.store import DATABASE

ELSEWHERE_FILE = "database.json"


def answers_exist(folder: Path, url: str | None) -> bool:
    """Tell whether a study may have answers: a database is named, written down, or in its folder.

    Args:
        folder: of the study.
        url: SQLAlchemy's, where one is given.
    """
    return any((url, (folder / DATABASE).exists(), (folder / ELSEWHERE_FILE).exists()))


def require_database(folder: Path, url: str | None) -> None:
    """Refuse to look into the folder for answers that are in another database.

    Args:
        folder: of the study.
        url: SQLAlchemy's, where one is given.

    Raises:
        InputError: none is given, and one is written down.
    """
    path = folder / ELSEWHERE_FILE
    if url is None and path.exists():
        known = read_json(path, "delete it if the answers are in the study's folder").get("url")
        raise InputError(
            f"the answers of this study are in another database, {known}: give it with "
            f"--database, or delete {str(path)!r} if they are in the study's folder"
        )


def note_database(folder: Path, url: str | None) -> None:
    """Write down that answers are in another database, without its password.

    Args:
        folder: of the study.
        url: SQLAlchemy's, of a database that could be opened.

    Raises:
        StorageError: it cannot be written.
    """
    if url is None or _is_in(folder, make_url(url)):
        return
    content = {"url": make_url(url).render_as_string(hide_password=True)}
    path = folder / ELSEWHERE_FILE
    if not path.exists() or read_json(path, "delete it") != content:
        write_json(path, content)


def _is_in(folder: Path, url: URL) -> bool:
    """Tell whether a URL is that of the study folder's own file."""
    own = (folder / DATABASE).resolve()
    return url.get_backend_name() == "sqlite" and Path(url.database or "").resolve() == own
