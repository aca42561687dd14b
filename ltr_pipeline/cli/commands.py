"""Every command of ``ltr``: its name, arguments and help.

The work is done by the other modules of this room, imported when a command is run: what reads events and trains models
takes seconds to import, which neither ``ltr --help`` nor ``ltr versions`` should cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

import ltr_pipeline

__all__ = ["app"]

NIGHTS: Final = "Nights"
VERSIONS: Final = "Versions"
FIGURES: Final = "Figures"
WATCHING: Final = "Watching"
DATABASE: Final = "Database"
MACHINE: Final = "This machine"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option("--reason", help="The ledger keeps this as the reason.")]

app = typer.Typer(
    name="ltr",
    help="Train, judge, publish and roll back a ranker.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


database = typer.Typer(name="database", help="Our tables in your database.", no_args_is_help=True)
app.add_typer(database, rich_help_panel=DATABASE)
segments = typer.Typer(name="segments", help="Engagement of users and items, in words.", no_args_is_help=True)
app.add_typer(segments, rich_help_panel=DATABASE)
recommendations = typer.Typer(
    name="recommendations",
    help="What `ltr score` has recommended: look at it, approve it, reject it.",
    no_args_is_help=True,
)
app.add_typer(recommendations, rich_help_panel=DATABASE)


def _check_database_driver() -> None:
    """Raise DatabaseError where the packages that reach a database are not installed."""
    import ltr_pipeline.database.engine  # noqa: F401


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ltr-pipeline {ltr_pipeline.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version of this package."),
    ] = False,
) -> None:
    """Hold the options of ``ltr`` itself, which stand before a command."""


@app.command(rich_help_panel=NIGHTS)
def run(
    date: Annotated[
        str | None, typer.Option(help="Day (UTC) to run for, YYYY-MM-DD; default: the next day not yet processed.")
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train, whether it is due or not: see the Airflow Variable ltr_retrain.")
    ] = False,
) -> None:
    """Run the DAG train_ltr_daily once: for the next day, or again for the day you name."""
    from ltr_pipeline.cli import nightly

    nightly.run(date, retrain=retrain)


@app.command(rich_help_panel=NIGHTS)
def refresh(
    variable: Annotated[
        list[str] | None,
        typer.Option(help="Gate Variable to set, such as ltr_ndcg_min=0.6; others are read from AIRFLOW_VAR_…."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge, but publish nothing.")] = False,
) -> None:
    """Refresh the nightly model from what was answered since, as the DAG train_ltr_hourly does, without Airflow."""
    from ltr_pipeline.cli import nightly

    nightly.refresh(variable or [], dry_run=dry_run)


@app.command(rich_help_panel=NIGHTS)
def runs(
    limit: Annotated[int, typer.Option(min=1, help="Number of newest nights.")] = 30, as_json: AsJson = False
) -> None:
    """List the nights, newest first: published, kept or unfinished, why, and where the report is."""
    from ltr_pipeline.cli import nights

    nights.runs(limit, as_json)


@app.command(rich_help_panel=NIGHTS)
def report(
    run: Annotated[str | None, typer.Argument(help="Name of the run; default: the newest that has a report.")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Print where the report of a night, or of an hourly refresh, is."""
    from ltr_pipeline.cli import nights

    nights.report(run, open_it)


@app.command(rich_help_panel=NIGHTS)
def init(
    log: Annotated[Path, typer.Argument(help="JSONL log, or a folder or glob of logs (also .gz).")],
    mapping: Annotated[Path, typer.Option(help="Mapping file to write.")] = Path("mapping.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the mapping file.")] = False,
) -> None:
    """Draft a mapping from a log of yours, say why, and try the log with it.

    It exits with 1 if the log would not pass the gate, and with 2 if no mapping can be drafted.
    """
    from ltr_pipeline.cli import drafting

    drafting.init(log, mapping, force)


@app.command("try", rich_help_panel=NIGHTS)
def try_log(
    log: Annotated[Path, typer.Argument(help="JSONL log, or a folder or glob of logs (also .gz).")],
    mapping: Annotated[Path | None, typer.Option(help="Mapping file; default: LTR_MAPPING.")] = None,
    variable: Annotated[list[str] | None, typer.Option(help="Gate Variable to set, such as ltr_ndcg_min=0.6.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Empty scratch folder; default: a new temporary one.")] = None,
) -> None:
    """Say whether a log of yours would pass the gate, and if not, why.

    It publishes nothing, and exits with 1 if the log would not pass.
    """
    from ltr_pipeline.cli import nightly

    nightly.try_log(log, mapping, variable or [], folder)


@app.command(rich_help_panel=NIGHTS)
def simulate(
    days: Annotated[int | None, typer.Option(min=1, help="Number of days to write; default: a month.")] = None,
    first: Annotated[str | None, typer.Option(help="First day (UTC); default: so that the log ends now.")] = None,
    rankings_per_day: Annotated[int | None, typer.Option(min=1, help="Number of lists shown a day.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the simulated world; another gives another world.")] = None,
    explored: Annotated[
        float | None,
        typer.Option("--explored", min=0, max=1, help="Share of lists in which coins swap neighbours."),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option(help="Log file to write (folder of the month); default: LTR_EVENTS_PATH (var/history)."),
    ] = None,
    database: Annotated[
        bool, typer.Option("--database", help="Instead, make a table `users` without scores in LTR_DATABASE_URL.")
    ] = False,
    users: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of rows of that table.")] = 1000,
    history: Annotated[
        bool,
        typer.Option("--history", help="Instead, live a month in a folder, night by night, for the board to show."),
    ] = False,
) -> None:
    """Write a simulated event log of lawyers ranked for cases, or a table of users to score, or a month of nights."""
    if history:
        from ltr_pipeline.cli.history import simulate_history

        simulate_history(path or Path("var/history"), seed=seed or 7)
        return
    if database:
        _check_database_driver()
        from ltr_pipeline.cli import scoring

        scoring.simulate_users(users)
        return
    from ltr_pipeline.cli import nightly

    nightly.simulate(days, first, path, rankings_per_day=rankings_per_day, seed=seed, explored_share=explored)


@app.command(rich_help_panel=NIGHTS)
def demo(
    seeds: Annotated[int, typer.Option(min=2, help="Number of simulated worlds.")] = 5,
    visits: Annotated[int, typer.Option(min=20, help="Number of lists shown a simulated day.")] = 150,
    panel: Annotated[int, typer.Option(min=100, help="Number of lists that each step is measured on.")] = 1000,
    dags: Annotated[int, typer.Option(min=0, help="Number of worlds whose nights run in Airflow.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Folder that keeps everything; default: a temporary one.")] = None,
) -> None:
    """Show the loop (users, service, nightly run, reload, users again) and what it gains."""
    from ltr_pipeline.cli import demo

    demo.demo(seeds, visits, panel, dags, folder)


@app.command(rich_help_panel=VERSIONS)
def versions(as_json: AsJson = False) -> None:
    """List every version, newest first."""
    from ltr_pipeline.cli import models

    models.versions(as_json)


@app.command(rich_help_panel=VERSIONS)
def show(version: Annotated[str, typer.Argument(help="Version id or run, such as 20250714_0215.")]) -> None:
    """Print the document of a version without the text of its model, or the verdict of a run that published none."""
    from ltr_pipeline.cli import models

    models.show(version)


@app.command(rich_help_panel=VERSIONS)
def history(as_json: AsJson = False) -> None:
    """Print the ledger: every move of `latest`, its pin and every prune, oldest first, and the nights that kept."""
    from ltr_pipeline.cli import models

    models.history(as_json)


@app.command(rich_help_panel=VERSIONS)
def verify(
    data: Annotated[bool, typer.Option("--data", help="Verify the landed partitions and their files, too.")] = False,
) -> None:
    """Check the ledger, `latest`, and that every version loads and scores as recorded; exit with 1 if one does not."""
    from ltr_pipeline.cli import models

    models.verify(data)


@app.command(rich_help_panel=VERSIONS)
def repair() -> None:
    """Point `latest` at the version that the ledger names, where a command that was to do so was killed."""
    from ltr_pipeline.cli import models

    models.repair()


@app.command(rich_help_panel=VERSIONS)
def rollback(
    version: Annotated[
        str | None, typer.Argument(help="Version id to go back to; default: the previous good version.")
    ] = None,
    *,
    reason: Reason,
) -> None:
    """Move `latest` back to a version and pin it there."""
    from ltr_pipeline.cli import models

    models.rollback(version, reason)


@app.command(rich_help_panel=VERSIONS)
def pin(*, reason: Reason) -> None:
    """Keep `latest` where it is until `ltr unpin`."""
    from ltr_pipeline.cli import models

    models.pin(reason)


@app.command(rich_help_panel=VERSIONS)
def unpin(reason: Reason = "unpinned by hand") -> None:
    """Let the next publish move `latest` again; this command itself moves nothing."""
    from ltr_pipeline.cli import models

    models.unpin(reason)


@app.command(rich_help_panel=VERSIONS)
def prune(
    *,
    keep: Annotated[int, typer.Option(min=1, help="Number of newest nightly versions to keep.")] = 30,
    moves: Annotated[
        int, typer.Option(min=1, help="Number of newest ledger entries whose versions are kept, too.")
    ] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed and remove nothing.")] = False,
    reason: Reason = "pruned by hand",
) -> None:
    """Remove old versions for good, hourly ones after a week; `latest` and what moves or a rollback need stay."""
    from ltr_pipeline.cli import models

    models.prune(keep, moves, dry_run, reason)


@app.command(rich_help_panel=VERSIONS)
def publish(run: Annotated[str, typer.Argument(help="Name of the run, such as 20250714_0215.")]) -> None:
    """Publish what the gate of a run has passed, when the run itself could not, e.g. with the registry away."""
    from ltr_pipeline.cli import nightly

    nightly.publish(run)


@app.command(rich_help_panel=VERSIONS)
def approve(
    run: Annotated[str, typer.Argument(help="Name of the run, such as 20250714_0215.")], *, reason: Reason
) -> None:
    """Publish what the gate of a run could not decide, and kept or asked about, on your word.

    What failed a check is never published.
    """
    from ltr_pipeline.cli import nightly

    nightly.approve(run, reason)


@app.command(rich_help_panel=NIGHTS)
def events(
    date: Annotated[
        str | None,
        typer.Argument(help="Day (UTC), YYYY-MM-DD, or a run of it, YYYYMMDD_HHMM; default: everything that landed."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Number of quarantined records to print.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Show what landed on a day, or by a run, and what was refused (manifest and quarantine)."""
    from ltr_pipeline.cli import events

    events.show_events(date, limit, as_json)


@app.command(rich_help_panel=NIGHTS)
def forget(
    user: Annotated[str, typer.Argument(help="Id of the user, as it landed in user_id.")], *, reason: Reason
) -> None:
    """Remove what has landed about a user for good, and record that it was removed."""
    from ltr_pipeline.cli import events

    events.forget(user, reason)


@app.command(rich_help_panel=NIGHTS)
def amend(
    date: Annotated[str, typer.Argument(help="Day (UTC) of the partition, YYYY-MM-DD, or its run, YYYYMMDD_HHMM.")],
    *,
    reason: Reason,
) -> None:
    """Accept a landed partition as it is, after it was altered, or the one before it was altered or removed."""
    from ltr_pipeline.cli import events

    events.amend(date, reason)


@app.command(rich_help_panel=FIGURES)
def interleave_report(
    since: Annotated[
        str | None, typer.Option(help="First day (UTC); default: that of the first interleaved list.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Last day (UTC); default: the last whose feedback is complete.")
    ] = None,
    relevance: Annotated[int, typer.Option(min=1, help="Least relevance that counts for an item.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Say which of two interleaved versions users prefer, and how sure that is."""
    from ltr_pipeline.cli import interleaving

    interleaving.interleave_report(since, until, relevance, as_json)


@app.command(rich_help_panel=FIGURES)
def evaluate(
    test: Annotated[Path, typer.Option("--letor", help="File with the test part of a LETOR/LibSVM ranking set.")],
    train: Annotated[
        Path | None, typer.Option(help="File with its training part; default: the same name with 'train'.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train on the training part of a public ranking set and score its test part."""
    from ltr_pipeline.cli import letor

    letor.evaluate(test, train, as_json)


@app.command(rich_help_panel=WATCHING)
def monitor(
    night: Annotated[
        str | None, typer.Argument(help="Landed night (UTC), YYYY-MM-DD; default: all that nobody has watched.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the data with the weeks before, measure outcomes by version, and say what should be looked at."""
    from ltr_pipeline.cli import monitoring

    monitoring.watch(night, as_json)


@app.command("monitor-init", rich_help_panel=WATCHING)
def monitor_init(
    folder: Annotated[Path, typer.Argument(help="Folder of the three files.")] = Path("var/monitoring"),
) -> None:
    """Begin the history with the nights that have run, and make its tables and files."""
    _check_database_driver()
    from ltr_pipeline.cli import monitoring

    monitoring.init(folder)


@app.command("monitor-export", rich_help_panel=WATCHING)
def monitor_export(
    folder: Annotated[Path, typer.Argument(help="Folder to write to.")],
    days: Annotated[int, typer.Option(min=1, help="Number of newest landed nights in the log of predictions.")] = 7,
) -> None:
    """Write the history as model_metrics.json, predictions_log.csv and drift_reports.json."""
    from ltr_pipeline.cli import monitoring

    monitoring.export(folder, days)


@app.command(rich_help_panel=DATABASE)
def score(
    job: Annotated[str | None, typer.Argument(help="Job of the file LTR_SCORING; default: all of them.")] = None,
    whole: Annotated[bool, typer.Option("--all", help="Score rows that have a score, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at everything and write nothing.")] = False,
    again: Annotated[str | None, typer.Option(help="Score anew the rows that this version scored.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score the rows of your database that have no score, by the published version.

    It exits with 1 if more rows cannot be scored than the job allows.
    """
    _check_database_driver()
    from ltr_pipeline.cli import scoring

    scoring.score(job, whole, dry_run, again, as_json)


@database.command("init")
def database_init(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the statements that are due, and execute none.")
    ] = False,
    indexes: Annotated[
        bool, typer.Option("--indexes", help="Also make an index on the rows without a score, in tables of jobs.")
    ] = False,
) -> None:
    """Create the tables of this package, and bring those of a former release up to date."""
    _check_database_driver()
    from ltr_pipeline.cli import database

    database.init(dry_run, indexes)


ProposedRun = Annotated[
    int, typer.Argument(metavar="RUN", help="Number of the run; `ltr recommendations list` has it.")
]
RowsFile = Annotated[
    Path | None,
    typer.Option("--rows", help="CSV file with query_id and item_id of the rows to answer; default: all that wait."),
]
AnswerReason = Annotated[str, typer.Option("--reason", help="Each row keeps this as the reason.")]


@recommendations.command("list")
def recommendations_list(
    limit: Annotated[int, typer.Option(min=1, help="Number of newest runs.")] = 30, as_json: AsJson = False
) -> None:
    """List the runs that recommended something, newest first, and how many rows of each wait for an answer."""
    _check_database_driver()
    from ltr_pipeline.cli import recommendations

    recommendations.list_runs(limit, as_json)


@recommendations.command("show")
def recommendations_show(
    run: ProposedRun,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, which --rows reads.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the recommendations of a run, and what became of each."""
    _check_database_driver()
    from ltr_pipeline.cli import recommendations

    recommendations.show(run, as_csv, as_json)


@recommendations.command("approve")
def recommendations_approve(run: ProposedRun, *, rows: RowsFile = None, reason: AnswerReason) -> None:
    """Approve what waits of a run: the view recommendations_current shows it."""
    _check_database_driver()
    from ltr_pipeline.cli import recommendations

    recommendations.answer(run, "approved", rows, reason)


@recommendations.command("reject")
def recommendations_reject(run: ProposedRun, *, rows: RowsFile = None, reason: AnswerReason) -> None:
    """Reject what waits of a run: what was approved before stays in the view recommendations_current."""
    _check_database_driver()
    from ltr_pipeline.cli import recommendations

    recommendations.answer(run, "rejected", rows, reason)


@segments.command("init")
def segments_init(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the statements that are due, and execute none.")
    ] = False,
) -> None:
    """Make the tables of segments, with parameters to begin with."""
    from ltr_pipeline.cli import segments

    segments.init(dry_run)


@segments.command("train")
def segments_train(
    replace: Annotated[
        bool, typer.Option("--replace", help="Put the new models in use, however little they agree with the former.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train segments anew from the landed events; exit with 1 if a former model stays in use."""
    from ltr_pipeline.cli import segments

    segments.train(replace, as_json)


@segments.command("classify")
def segments_classify(as_json: AsJson = False) -> None:
    """Fill the cube anew by the models in use, in one transaction."""
    from ltr_pipeline.cli import segments

    segments.classify(as_json)


@segments.command("show")
def segments_show(as_json: AsJson = False) -> None:
    """Show the cube: how many entities have which label in each period."""
    from ltr_pipeline.cli import segments

    segments.show(as_json)


@app.command(rich_help_panel=MACHINE)
def up() -> None:
    """Start Airflow and the service in the background and wait until they are healthy."""
    from ltr_pipeline.cli import stack

    stack.up()


@app.command(rich_help_panel=MACHINE)
def down() -> None:
    """Stop what `ltr up` has started."""
    from ltr_pipeline.cli import stack

    stack.down()


@app.command(rich_help_panel=MACHINE)
def variables(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a file for Airflow's import and touch nothing.")
    ] = False,
) -> None:
    """Create the nights' Variables that Airflow lacks, and show every value in use; what is set stays as it is."""
    from ltr_pipeline.cli import variables

    variables.variables(as_json)


@app.command(rich_help_panel=MACHINE)
def serve() -> None:
    """Rank by the published weights over HTTP until you stop it (docs/api.md)."""
    from ltr_pipeline.cli import stack

    stack.serve()


@app.command(rich_help_panel=FIGURES)
def board(
    html: Annotated[Path | None, typer.Option(help="Folder to write all pages to, as files to share.")] = None,
) -> None:
    """Print where the board is that the service shows, or write its pages as files."""
    from ltr_pipeline.cli import board

    board.board(html)


@app.command(rich_help_panel=MACHINE)
def keys() -> None:
    """Print the public part of LTR_SIGNING_KEY, or make a new pair of keys where none is set."""
    from ltr_pipeline.cli import models

    models.keys()


@app.command(rich_help_panel=MACHINE)
def doctor(as_json: AsJson = False) -> None:
    """Check broker, topic, event log, storage and registry; exit with 1 if something is wrong."""
    from ltr_pipeline.cli import doctor

    doctor.examine(as_json)
