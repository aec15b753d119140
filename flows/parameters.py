"""Parameters of the flows, as a YAML file, the CLI and the Prefect form give them."""

from __future__ import annotations

from pydantic import Field, model_validator

from tasks.drift import DriftParameters
from tasks.examples import ExampleParameters
from tasks.parameters import (
    CleanParameters,
    ModuliParameters,
    Parameters,
    RankParameters,
    ScreenParameters,
    SourceParameters,
)
from tasks.teach_parameters import CAN_BE_TAUGHT, TaughtParameters
from tasks.train_parameters import TrainParameters


class FlowParameters(Parameters):
    """What every flow needs to know about where it runs."""

    store: str | None = Field(
        None, description="folder or URL of the artifact store; empty: $ELEMSCREEN_STORE or ./elemscreen-store"
    )
    cluster: str = Field(
        "local", description="Dask profile (name or YAML file), or the address tcp://HOST:PORT of a scheduler"
    )


class IngestParameters(FlowParameters):
    """Parameters of the flow `ingest`."""

    source: SourceParameters = Field(default_factory=SourceParameters, description="the table")
    beside: tuple[SourceParameters, ...] = Field((), description="further sources, put side by side with the first")
    drift: DriftParameters = Field(
        default_factory=DriftParameters, description="how much a source may differ from its snapshot before"
    )


class LearnFlowParameters(FlowParameters):
    """The rows that the flows of learning start from."""

    data: str = Field("starter", description="rows: `starter`, a file, an artifact folder or a key")
    energies: SourceParameters = Field(default_factory=SourceParameters, description="how to read `data`, if a file")
    cleaning: CleanParameters = Field(
        default_factory=CleanParameters, description="of formation energies that are learnt by ElemNet's rules"
    )
    examples: ExampleParameters | None = Field(
        None, description="other labels, or formation energies without ElemNet's rules; empty: by those rules"
    )
    attributes: str | None = Field(None, description="structural attributes: artifact folder or key")


class TrainFlowParameters(LearnFlowParameters):
    """Parameters of the flow `train`."""

    training: TrainParameters = Field(default_factory=TrainParameters)
    init: str | None = Field(None, description="a model to start from: artifact folder or key")
    teacher: str | None = Field(
        None,
        description="a model of the same rows, whose energies of new compositions are learnt as well: artifact folder "
        "or key",
    )
    taught: TaughtParameters = Field(default_factory=TaughtParameters, description="with a teacher: what it labels")

    @model_validator(mode="after")
    def _taught_from_scratch(self) -> TrainFlowParameters:
        if self.teacher is not None and self.init is not None:
            raise ValueError("a network with a teacher starts from scratch: leave init out, or the teacher")
        if self.teacher is not None and self.training.representation not in CAN_BE_TAUGHT:
            raise ValueError(f"new compositions have no structure to read {self.training.representation} from")
        return self


class ScreenFlowParameters(FlowParameters):
    """Parameters of the flow `screen`."""

    model: str = Field(description="the network: artifact folder or key")
    phases: str = Field("starter", description="known phases: `starter`, a file, an artifact folder or a key")
    known: str | None = Field(None, description="a list of known compositions: file, artifact folder or key")
    screening: ScreenParameters = Field(default_factory=ScreenParameters)
    block_size: int | None = Field(
        None, ge=1, description="compositions per screening task, empty: what suits the workers; no part of the result"
    )
    tasks_in_flight: int = Field(
        256,
        ge=1,
        description="screening tasks handed to the cluster at a time, several per core; no part of the result",
    )


class RankFlowParameters(FlowParameters):
    """Parameters of the flow `rank`."""

    electrolytes: str = Field("starter", description="candidates with structures: `starter`, a file, a folder or a key")
    model: str | None = Field(None, description="moduli model: artifact folder or key; empty: trained on `structures`")
    structures: str = Field(
        "starter", description="structures with moduli to learn from: one table, or several with commas between"
    )
    stated: str | None = Field(
        None, description="moduli and elastic tensors by material_id; empty: what the candidates state themselves"
    )
    phases: str | None = Field(None, description="phases of the hull, for electrochemical windows; empty: no windows")
    moduli: ModuliParameters = Field(default_factory=ModuliParameters)
    ranking: RankParameters = Field(default_factory=RankParameters)


class CampaignParameters(FlowParameters):
    """Parameters of the flow `campaign`: the whole pipeline."""

    name: str = Field("campaign", description="name of the campaign, the title of its report")
    energies: SourceParameters = Field(
        default_factory=SourceParameters, description="formation energies: the hull and the training rows"
    )
    known: SourceParameters | None = Field(None, description="a list of known compositions, with or without energies")
    structures: SourceParameters | None = Field(
        None, description="structures with moduli to learn from; empty: the energies' table"
    )
    electrolytes: SourceParameters | None = Field(None, description="candidates to rank; empty: the energies' table")
    cleaning: CleanParameters = Field(default_factory=CleanParameters)
    training: TrainParameters = Field(default_factory=TrainParameters)
    screening: ScreenParameters = Field(default_factory=ScreenParameters)
    block_size: int | None = Field(
        None, ge=1, description="compositions per screening task, empty: what suits the workers; no part of the result"
    )
    tasks_in_flight: int = Field(
        256,
        ge=1,
        description="screening tasks handed to the cluster at a time, several per core; no part of the result",
    )
    moduli: ModuliParameters = Field(default_factory=ModuliParameters)
    ranking: RankParameters = Field(default_factory=RankParameters)
