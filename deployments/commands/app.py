"""The tree of commands; each is imported when it is called, so that help is there at once."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": (
        "campaigns:demo",
        "Run the whole campaign on the starter set that ships with the package: minutes on two cores.",
    ),
    "campaign": ("campaigns:campaign_app", "Campaigns: the whole pipeline as configured in a YAML file."),
    "ingest": (
        "ingest:ingest_command",
        "Read one source into the store; rows that cannot be used are kept under rejected/ with their reason.",
    ),
    "merge": (
        "ingest:merge_command",
        "Put the rows of several sources side by side; nothing is averaged, measured energies stay apart.",
    ),
    "featurize": (
        "featurize:featurize_command",
        "Compute what networks read; a file has one column per feature, the artifact a list.",
    ),
    "train": (
        "learn:train_command",
        "Train one network or an ensemble, on formation energies or on any other column.",
    ),
    "cross-validate": (
        "validate:validate_command",
        "Train networks and baselines on the same folds, in parallel, and say which differences are real.",
    ),
    "tune": (
        "tune:tune_command",
        "Search for the settings with which a network learns best; validation rows are never looked at.",
    ),
    "transfer": (
        "transfer:transfer_command",
        "Fine-tune a network on a small table, fold by fold, beside the same from scratch and the network as it is.",
    ),
    "predict": (
        "learn:predict_command",
        "Add `prediction` and `prediction_std` to a table; with a calibrated model its 95 % interval, too.",
    ),
    "hull": (
        "screening:hull_command",
        "Add `hull_energy_per_atom`, `energy_above_hull` and `decomposition_energy` to a table.",
    ),
    "screen": (
        "screening:screen_command",
        "Screen a composition space, or a list of formulas, against the convex hull of the known phases.",
    ),
    "backtest": (
        "backtest:backtest_command",
        "Hold compounds out, train without them, and measure precision, recall and acceleration of the finds.",
    ),
    "explain": (
        "explain:explain_command",
        "Look into a network: likeness of elements, linear probes of its layers, predicted phase diagrams.",
    ),
    "stability": (
        "electrolytes:stability_command",
        r"Add `chi` \[kJ/mol/nm], `lambda_crit_nm` and P(chi < 0) to a table of moduli.",
    ),
    "substitute": (
        "substitute:substitute_command",
        "Give compositions the structures of known compounds and prototypes, so that `rank` can read them; marked.",
    ),
    "rank": (
        "electrolytes:rank_command",
        "Rank solid electrolytes by their Monroe-Newman stability against a metal electrode.",
    ),
    "rank-compositions": (
        "electrolytes:rank_compositions_command",
        "Rank compositions without a structure by how likely they stop dendrites.",
    ),
    "report": ("report:report_command", "Find a campaign's report: print its path, or write it to a file."),
    "export": ("data:export_command", "Write an artifact's table as a file."),
    "artifacts": ("artifacts:artifacts_app", "The artifact store: list, show, verify, explain, clean up."),
    "ui": ("service:ui_command", "Run the embedded Prefect server until Ctrl-C and print the address of its UI."),
    "deploy": (
        "service:deploy_command",
        "Create or update the deployments: nightly ingest, weekly training, campaigns on demand.",
    ),
    "doctor": (
        "service:doctor_command",
        "Say what this machine has and lacks; exit code 1 when something will not work.",
    ),
    "starter-set": (
        "data:starter_command",
        "Rebuild the starter set with a universal potential: two to four core-hours, resumable (extra `selfbuilt`).",
    ),
}
"""Name -> `module:function` in this package (or the `typer.Typer` of a group), and the line that the help shows."""


def load(name: str) -> Any:
    """Import a command (a click command or group of Typer's) by its name in `COMMANDS`."""
    module_name, attribute = COMMANDS[name][0].split(":")
    found = getattr(importlib.import_module(f"deployments.commands.{module_name}"), attribute)
    tree = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    if isinstance(found, typer.Typer):
        tree.add_typer(found, name=name)
    else:
        tree.command(name)(found)
    return typer.main.get_group(tree).commands[name]


class Commands(TyperGroup):
    """The commands of the table, by name and help alone until one of them is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, line) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=line))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that the arguments call, imported, and the arguments that are left for it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest


app = typer.Typer(
    name="elemscreen",
    cls=Commands,
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
