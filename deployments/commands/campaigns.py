"""`demo` and `campaign`: the whole pipeline."""

from __future__ import annotations

import os
import string
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from deployments.commands.run import ClusterOption, StoreOption, console, payload_path, run_flow
from models.errors import InputError
from storage.root import store_root

if TYPE_CHECKING:
    from flows.parameters import CampaignParameters
    from flows.run import CampaignResult

campaign_app = typer.Typer(no_args_is_help=True, help="Campaigns: the whole pipeline as configured in a YAML file.")


def load_campaign(path: Path, changes: list[str]) -> CampaignParameters:
    """Read a campaign file; `${NAME}` is replaced by the environment variable, `--set a.b=value` changes one entry."""
    from flows.parameters import CampaignParameters

    if not path.is_file():
        raise InputError(f"no campaign file at {path}; see the examples that `elemscreen campaign examples` prints")
    try:
        text = string.Template(path.read_text()).substitute(os.environ)
    except KeyError as error:
        raise InputError(
            f"{path} needs the environment variable {error.args[0]}; set it to the folder of your data"
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: {error}; write a dollar sign as $$") from None
    try:
        data: Any = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} must hold a mapping of parameters, for example 'name: my-campaign'")
    for change in changes:
        _set(data, change)
    return CampaignParameters(**data)


def _set(data: dict[str, Any], change: str) -> None:
    """Apply one `a.b=value` to nested parameters; the value is read as YAML."""
    name, sign, value = change.partition("=")
    if not sign or not name:
        raise InputError(f"--set takes key=value, for example --set training.epochs=10; got '{change}'")
    try:
        entry: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {name}: '{value}' is not valid YAML: {' '.join(str(error).split())}") from None
    *parents, last = name.split(".")
    for parent in parents:
        data = data.setdefault(parent, {}) if isinstance(data, dict) else data
        if not isinstance(data, dict):
            raise InputError(f"--set {name}: '{parent}' holds a value and no parameters")
    data[last] = entry


def example(name: str) -> Path:
    """Return the path of a campaign file that ships with the package."""
    return Path(str(resources.files("deployments") / "campaigns" / f"{name}.yaml"))


def _finish(result: CampaignResult) -> None:
    console.print()
    for label, path in (
        ("candidates", payload_path(result.candidates, "candidates.parquet")),
        ("ranking", payload_path(result.ranking, "ranking.parquet")),
        ("report", payload_path(result.report, "report.html")),
    ):
        console.print(f"[bold]{label:<11}[/]{path}", highlight=False, soft_wrap=True)


def demo(store: StoreOption = None, dask: ClusterOption = "local") -> None:
    """Run the whole campaign on the starter set that ships with the package: minutes on two cores."""
    from flows.campaign import campaign

    parameters = load_campaign(example("demo"), [])
    _finish(run_flow(campaign, parameters.model_copy(update={"store": store_root(store), "cluster": dask})))


@campaign_app.command("run")
def campaign_run(
    file: Annotated[Path, typer.Argument(help="Campaign file (YAML).")],
    changes: Annotated[list[str] | None, typer.Option("--set", help="Change one entry: key=value, a.b=value.")] = None,
    store: StoreOption = None,
    dask: Annotated[str | None, typer.Option("--dask", help="Dask profile or scheduler address.")] = None,
) -> None:
    """Run a campaign; stages whose artifacts are in the store are not computed again."""
    from flows.campaign import campaign

    parameters = load_campaign(file, changes or [])
    update = {"store": store_root(store or parameters.store), "cluster": dask or parameters.cluster}
    _finish(run_flow(campaign, parameters.model_copy(update=update)))


@campaign_app.command("examples")
def campaign_examples() -> None:
    """Print where the example campaign files lie."""
    for file in sorted(example("demo").parent.glob("*.yaml")):
        console.print(str(file), highlight=False, soft_wrap=True)
