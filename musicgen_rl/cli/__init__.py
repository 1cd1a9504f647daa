"""The command line: `musicgen-rl COMMAND ...`.

Each command is a module of this package with a Typer `app`, imported only when it is called: so
`--help` needs no torch, and a missing optional dependency of one command does not break another.
"""

import importlib
import sys
from collections.abc import Sequence

from musicgen_rl.cli.failures import debug_wanted, guarded
from musicgen_rl.errors import ConfigError

COMMANDS = {
    "generate": "Make music from text.",
    "batch": "Make thousands of clips from a file of prompts.",
    "replay": "Make a clip again from its own tags and prove it the same.",
    "info": "Show how a file was made, or what a model is.",
    "demo": "Open the studio, a page in the browser.",
    "doctor": "Say what runs here, what is missing, and how to get it.",
    "merge": "Merge two models of one base into one.",
    "data": "Make and check what models learn from.",
    "train": "Train models.",
    "listen": "Ask people: a blind listening study from plan to report.",
    "evaluate": "Measure the quality-diversity front of a model, or of any audio.",
}
"""Name -> one line of help; the module of that name holds the Typer `app`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: those of the process if None.

    Returns:
        Exit status: 0 done, 1 a replay differs or `generate` cannot work here, 2 a user's mistake
        or a lack of space or memory, 70 a bug, 130 and 143 stopped by SIGINT and SIGTERM, 141 the
        reader of the output went away.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = debug_wanted()
    if given[:1] == ["--debug"]:
        debug, given = True, given[1:]
    return guarded(lambda: run(given), debug=debug)


def run(arguments: list[str]) -> int:
    """Run one command and let its exceptions through.

    Raises:
        ConfigError: there is no such command.
    """
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(overview())
        return 0
    if arguments[0] in ("--version", "-V"):
        from musicgen_rl.audio.tags import package_version

        print(f"musicgen-rl {package_version()}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        raise ConfigError(f"unknown command {name!r}: there are {', '.join(COMMANDS)}")
    module = importlib.import_module(f"musicgen_rl.cli.{name}")
    from typer.main import get_command

    command = get_command(module.app)
    try:
        result = command.main(args=rest, prog_name=f"musicgen-rl {name}", standalone_mode=False)
    except SystemExit as error:  # click makes a 1 of a reader that went away
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from None
        raise
    return result if isinstance(result, int) else 0


def overview() -> str:
    """List the commands."""
    width = max(map(len, COMMANDS)) + 2
    return "\n".join(
        [
            "Usage: musicgen-rl [--debug] COMMAND ...",
            "",
            "Text to music with a dial between quality and diversity.",
            "",
            *(f"  {name:<{width}}{line}" for name, line in COMMANDS.items()),
            "",
            "  musicgen-rl COMMAND --help   explains one command",
            "  musicgen-rl --version        tells the version",
            "  --debug                      shows where an error came from",
        ]
    )
