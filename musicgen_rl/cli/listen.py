"""`musicgen-rl listen`: a blind listening study, from plan to report."""

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from musicgen_rl.cli.show import note, print_path, rows
from musicgen_rl.cli.stopping import StopSignals
from musicgen_rl.config import require, require_number
from musicgen_rl.errors import InputError

app = typer.Typer(
    help="Ask people: a blind listening study.", no_args_is_help=True, add_completion=False,
    rich_markup_mode=None,
)  # fmt: skip

Folder = Annotated[Path, typer.Argument(help="Folder of the study.")]
Database = Annotated[
    str | None,
    typer.Option(help="SQLAlchemy URL, such as postgresql+psycopg://user@host/name.",
                 show_default="the folder's answers.sqlite"),
]  # fmt: skip


@app.command()
def new(
    folder: Folder,
    preset: Annotated[str, typer.Option(help="paper, small or mushra.")] = "paper",
    prompts: Annotated[
        int | None, typer.Option(help="How many.", show_default="the preset's: 101 or 12")
    ] = None,
    raters: Annotated[
        int | None, typer.Option(help="How many people.", show_default="the preset's: 12 or 6")
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(help="Of a clip, in seconds.", show_default="the preset's: 8 or 6"),
    ] = None,
    model: Annotated[str, typer.Option(help="What makes the clips of both arms.")] = "pocket",
) -> None:
    """Write a commented study.yaml and prompts to start from."""
    from musicgen_rl.listening.preset import Size, write_preset

    size = Size(prompts=prompts, raters=raters, duration_s=duration, model=model)
    print_path(write_preset(folder, preset, size))


@app.command()
def plan(
    folder: Folder,
    effects: Annotated[
        str, typer.Option(help="True differences to try, in points of a five-point scale.")
    ] = "0,0.25,0.5",
    runs: Annotated[int, typer.Option(help="Simulated studies for each; 0 skips power.")] = 200,
    database: Database = None,
) -> None:
    """Check the study, draw who hears what, estimate power and minutes, and freeze the analysis."""
    from musicgen_rl.listening.assignment import expected_minutes, required_clips
    from musicgen_rl.listening.elsewhere import answers_exist
    from musicgen_rl.listening.plan import freeze, make_plan
    from musicgen_rl.listening.power import power

    made = make_plan(folder)
    if answers_exist(folder, database):
        _store(made, database).close()  # refuses a change after answers exist
    try:
        tried = [float(part) for part in effects.split(",")]
    except ValueError:
        raise InputError(f"--effects takes numbers such as 0,0.25,0.5, got {effects!r}") from None
    require(0 <= runs <= 100_000, f"--runs must be from 0 to 100000, got {runs}")
    if any(arm.model is not None for arm in made.study.arms):
        from musicgen_rl.evaluation.listening_clips import check_models  # slow to import

        check_models(made)
    some = bool(runs and made.study.analysis.planned)
    table = power(made.study, made.assignment, tried, runs=runs) if some else []
    path = freeze(made, table)
    minutes = [expected_minutes(made.study, session) for session in made.assignment.sessions]
    note(
        rows(
            {
                "raters": len(minutes),
                "trials": f"{sum(map(len, made.assignment.sessions))} in all",
                "clips": len(required_clips(made.assignment)),
                "minutes": f"{min(minutes):.0f} to {max(minutes):.0f} a rater, {sum(minutes):.0f} "
                "in all",
                "frozen": made.hash[:16],
            }
        )
    )
    by_comparison: dict[str, list[str]] = {}
    for row in table:
        found = f"{row['effect']:g}: {100 * float(row['power']):.0f} %"
        name = f"{row['question']}/{row['item']} {row['arms']}"
        by_comparison.setdefault(name, []).append(found)
    if by_comparison:
        note("how often each planned comparison is found (Holm), by its true effect in points:")
        note(rows({name: ", ".join(found) for name, found in by_comparison.items()}))
    if not made.study.analysis.planned:
        note("no comparison is planned: all will be exploratory, and there is no power to estimate")
    if not made.study.contact:
        note("study.yaml names no contact: raters will not know where to ask for deletion")
    print_path(path)


@app.command()
def make(
    folder: Folder,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda, for arms that are models.")]
    = "auto",
    database: Database = None,
) -> None:  # fmt: skip
    """Make all clips, of one length and loudness, under names that tell nothing."""
    from musicgen_rl.evaluation.listening_clips import make_clips
    from musicgen_rl.listening.clips import KEY_FILE
    from musicgen_rl.listening.elsewhere import answers_exist
    from musicgen_rl.listening.plan import load_plan

    made = load_plan(folder)
    if answers_exist(folder, database):
        store = _store(made, database)
        people = store.raters()
        store.close()
        if people:
            raise InputError(
                "people took part already: their clips must stay as they are; make a new study in "
                "another folder"
            )
    again = (folder / KEY_FILE).exists()
    with StopSignals() as stopping:
        stopping.patient = True
        print_path(make_clips(made, device=device, say=note, stop=stopping))
    if again:
        note("a server that is running knows the clips of before: start it again")


@app.command()
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Port to listen at.", show_default="7860 or the next free")
    ] = None,
    owner: Annotated[
        list[str] | None,
        typer.Option(metavar="USER:HASH", help="Who may open /owner; as `musicgen-rl demo "
                     "--hash-password USER` prints it."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Where raters reach the server, if a proxy stands before it: for the "
                     "owner's links.", show_default="as the owner's page is called"),
    ] = None,
    database: Database = None,
) -> None:  # fmt: skip
    """Open the study's pages."""
    serving = _application("serving")
    config = serving.StudyServer(
        folder=folder, host=host, port=port, owner=tuple(owner or ()), database=database,
        address=address,
    )  # fmt: skip
    serving.serve(config, note)


@app.command()
def invite(
    folder: Folder,
    count: Annotated[
        int | None, typer.Option(help="How many.", show_default="one for each rater of the study")
    ] = None,
    address: Annotated[
        str, typer.Option(help="Where raters reach the server.")
    ] = "http://127.0.0.1:7860",
    days: Annotated[float, typer.Option(help="After which an unused link expires.")] = 30.0,
    database: Database = None,
) -> None:
    """Print invitation links; each works once."""
    from musicgen_rl.listening.links import base_address
    from musicgen_rl.listening.plan import load_plan

    base = base_address(address)
    made = load_plan(folder)
    store = _store(made, database)
    number = made.study.raters.count if count is None else count
    require(1 <= number <= 10_000, f"--count must be from 1 to 10000, got {number}")
    require_number("--days", days, 0.01, 3650.0)
    for token in store.invite(store.next_slots(number, made.study.raters.count), days):
        print(f"{base}/i/{token}")
    store.close()


@app.command()
def stop(folder: Folder, database: Database = None) -> None:
    """End the study: no answer is taken any more, and the report may be read."""
    from musicgen_rl.listening.plan import load_plan
    from musicgen_rl.listening.retention import first_deletion

    made = load_plan(folder)
    store = _store(made, database)
    store.stop()
    day = first_deletion(made, store)
    store.close()
    note("the study has ended")
    if day is not None:
        note(
            f"what is stored about raters is to be deleted from {day} on: every `listen` command "
            "on this study does so; if none runs by then, run `musicgen-rl listen forget "
            f"{folder} --expired`"
        )


@app.command()
def report(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder.", show_default="the study's")
    ] = None,
    unblind: Annotated[
        bool, typer.Option("--unblind", help="Look before the end; it is logged and reported.")
    ] = False,
    database: Database = None,
) -> None:
    """Write report.html and report.json."""
    from musicgen_rl.listening.analysis import analyse
    from musicgen_rl.listening.plan import load_plan
    from musicgen_rl.listening.report import write_report

    made = load_plan(folder)
    store = _ended(made, database, unblind)
    try:
        for path in write_report(analyse(made, store), made, output or folder):
            print_path(path)
    finally:
        store.close()


@app.command()
def export(
    folder: Folder,
    output: Annotated[Path, typer.Argument(help="The csv file.")],
    unblind: Annotated[
        bool, typer.Option("--unblind", help="Look before the end; it is logged and reported.")
    ] = False,
    database: Database = None,
) -> None:
    """Write all answers as csv, raters under new numbers in a random order."""
    from musicgen_rl.listening.export import export_csv
    from musicgen_rl.listening.plan import load_plan

    made = load_plan(folder)
    store = _ended(made, database, unblind)
    try:
        note(f"{export_csv(made, store, output)} rows")
        print_path(output)
    finally:
        store.close()


@app.command(name="delete-rater")
def delete_rater(
    folder: Folder,
    code: Annotated[str, typer.Argument(help="The code shown on the rater's page.")],
    database: Database = None,
) -> None:
    """Delete everything about one rater, on request."""
    from musicgen_rl.listening.plan import load_plan
    from musicgen_rl.listening.retention import aftermath

    store = _store(load_plan(folder), database)
    try:
        done = store.delete_rater(code)
    finally:
        store.close()
    note(f"deleted: one rater, {done.answers} answers")
    for line in aftermath(done, folder):
        note(line)


@app.command()
def forget(
    folder: Folder,
    expired: Annotated[
        bool, typer.Option("--expired", help="Only raters whose retention time is over.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    database: Database = None,
) -> None:
    """Delete everything about all raters, or about those whose retention time is over."""
    from musicgen_rl.listening.plan import load_plan
    from musicgen_rl.listening.retention import aftermath, first_deletion

    made = load_plan(folder)
    store = _store(made, database)  # deletes whose time is over, and says so
    try:
        if expired:
            day = first_deletion(made, store)
            note("nobody's answers are stored" if day is None else f"the next are due on {day}")
            return
        if not yes:
            typer.confirm("Delete all raters and all their answers?", abort=True, err=True)
        done = store.forget()
    finally:
        store.close()
    note(f"deleted: {done.raters} raters, {done.answers} answers, all invitations")
    for line in aftermath(done, folder):
        note(line)


@app.command()
def simulate(
    folder: Folder,
    effect: Annotated[
        list[str] | None,
        typer.Option(metavar="ARM=POINTS", help="True advantage of an arm; repeat."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the simulated raters.")] = 0,
    careless: Annotated[float, typer.Option(help="Share who answer at random.")] = 0.1,
    dropouts: Annotated[int, typer.Option(help="How many of the raters stop halfway.")] = 0,
) -> None:
    """Play the study with simulated raters and clips of noise, through the real pages."""
    from musicgen_rl.listening.raters import RaterModel
    from musicgen_rl.listening.reading import load_study

    study = load_study(folder)
    count, arms = study.raters.count, [arm.name for arm in study.arms]
    require(
        0 <= dropouts <= count,
        f"--dropouts must be from 0 to {count}, the raters of the study, got {dropouts}",
    )
    effects: dict[str, float] = {}
    for text in effect or []:
        name, _, number = text.partition("=")
        try:
            effects[name] = float(number)
        except ValueError:
            raise InputError(f"--effect takes ARM=POINTS, got {text!r}") from None
        if name not in arms:
            raise InputError(f"--effect {text!r}: the arms are {', '.join(arms)}")
    model = RaterModel(effects=effects, careless=careless)
    simulation = _application("simulation")
    for path in simulation.simulate_study(folder, model, seed=seed, dropouts=dropouts, say=note):
        print_path(path)


def _store(made: Any, database: str | None = None) -> Any:
    """Open the answers; whoever's retention time is over is deleted before anything else."""
    from musicgen_rl.listening.elsewhere import note_database, require_database
    from musicgen_rl.listening.retention import delete_due
    from musicgen_rl.listening.store import Store, store_url, withdrawal

    slots = len(made.assignment.sessions)
    require_database(made.folder, database)
    store = Store(store_url(made.folder, database), made.hash, slots=slots)
    note_database(made.folder, database)
    if store.withdrawn:
        note(withdrawal(store.withdrawn))
    for line in delete_due(made, store):
        note(line)
    return store


def _ended(made: Any, database: str | None, unblind: bool) -> Any:
    """Open the store of a study that has ended, or that is unblinded on purpose."""
    store = _store(made, database)
    if store.stopped_at is None:
        if not unblind:
            store.close()
            raise InputError(
                "the study is still blind: end it with `musicgen-rl listen stop FOLDER`, or look "
                "early on purpose with --unblind, which the report will say"
            )
        store.log("unblinded before the stop", "command line")
    return store


def _application(module: str) -> Any:
    """Load a module of the listening pages when the command is called."""
    return importlib.import_module(f"app.listening.{module}")
