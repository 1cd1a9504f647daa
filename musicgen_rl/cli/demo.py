"""`musicgen-rl demo`: the studio, a page in the browser."""

import importlib
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: musicgen-rl demo --model pocket --port 7860")
def demo(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="pocket, a folder, or a hub id such as facebook/musicgen-small; repeat it and the "
            "page lets visitors choose.",
            show_default="pocket",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this computer's needs --auth.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Port to listen at.", show_default="7860 or the next free")
    ] = None,
    auth: Annotated[
        list[str] | None,
        typer.Option(metavar="USER:HASH", help="Who may use the page; repeat. See next option."),
    ] = None,
    hash_password: Annotated[
        str | None,
        typer.Option(metavar="USER", help="Ask for a password, print USER:HASH, and stop."),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let in everyone who can reach the address.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto (the fastest that is right here), fp32, bf16 or int8.")
    ] = "auto",
    mcp: Annotated[
        bool, typer.Option("--mcp", help="Offer it to language models as an MCP tool.")
    ] = False,
) -> None:
    """Open the studio in the browser: prompt, dial, sound."""
    if hash_password is not None:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        typer.echo(_application("passwords").hash_password(hash_password, password))
        return
    serving = _application("serve")
    models = model or ["pocket"]
    config = serving.ServeConfig(
        model=models[0],
        more_models=tuple(models[1:]),
        host=host,
        port=port,
        auth=tuple(auth or ()),
        no_auth=no_auth,
        device=device,
        dtype=dtype,
        mcp=mcp,
    )
    serving.serve(config, typer.echo)


def _application(module: str) -> Any:
    """Load a module of the web application when the command is called.

    By name: the application stands on this package, never the other way round, and its
    dependencies need not be there for any other command.
    """
    return importlib.import_module(f"app.{module}")
