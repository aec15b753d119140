"""The tree of commands."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from deployments.commands.artifacts import artifacts_app
from deployments.commands.backtest import backtest_command
from deployments.commands.campaigns import campaign_app, demo, report_command
from deployments.commands.data import export_command, starter_command
from deployments.commands.electrolytes import rank_command, stability_command
from deployments.commands.explain import explain_command
from deployments.commands.featurize import featurize_command
from deployments.commands.ingest import ingest_command, merge_command
from deployments.commands.learn import predict_command, train_command
from deployments.commands.screening import hull_command, screen_command
from deployments.commands.service import deploy_command, doctor_command, ui_command
from deployments.commands.transfer import transfer_command
from deployments.commands.tune import tune_command
from deployments.commands.validate import validate_command

app = typer.Typer(
    name="elemscreen",
    help="High-throughput screening of materials: known phases in, candidates and ranked electrolytes out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(value: bool) -> None:
    if value:
        try:
            typer.echo(version("elemscreen"))
        except PackageNotFoundError:
            typer.echo("elemscreen is not installed (bare checkout)")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """High-throughput screening of materials: known phases in, candidates and ranked electrolytes out."""


app.command("demo")(demo)
app.add_typer(campaign_app, name="campaign")
app.command("ingest")(ingest_command)
app.command("merge")(merge_command)
app.command("featurize")(featurize_command)
app.command("train")(train_command)
app.command("cross-validate")(validate_command)
app.command("tune")(tune_command)
app.command("transfer")(transfer_command)
app.command("predict")(predict_command)
app.command("hull")(hull_command)
app.command("screen")(screen_command)
app.command("backtest")(backtest_command)
app.command("explain")(explain_command)
app.command("stability")(stability_command)
app.command("rank")(rank_command)
app.command("report")(report_command)
app.command("export")(export_command)
app.command("starter-set")(starter_command)
app.add_typer(artifacts_app, name="artifacts")
app.command("ui")(ui_command)
app.command("deploy")(deploy_command)
app.command("doctor")(doctor_command)
