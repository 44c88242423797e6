"""Recommendation: from a log of what people did to a network that says what they want next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast, get_args

import numpy as np
from pydantic import Field

from tasks.contract.capabilities import (
    Computed,
    Distillable,
    Explainable,
    HasApproximation,
    HasBaselines,
    HasFigures,
    HasHiddenStates,
    HasStatistics,
    Pretrainable,
)
from tasks.contract.codec import Codec
from tasks.contract.statistics import Statistics
from tasks.contract.types import Arrays, Predict, Say, Split, silently
from tasks.contract.usecase import Examples, UseCase, setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from usecases.recommendation.network import NextItem

Method = Literal["popular", "recent", "markov", "itemknn", "ease"]


class Recommendation(
    UseCase, Pretrainable, HasBaselines, Distillable, HasHiddenStates, HasApproximation, HasStatistics, Explainable, HasFigures
):
    """Names the items that a person will want next, from the history of what the person did."""

    name: ClassVar[str] = "recommendation"

    data: str = setting(
        "sample", prepare=True, description="'sample' (simulated shoppers), a folder or file in a standard layout, or hf://owner/name"
    )
    user_column: str = setting("", prepare=True, description="column of the user in a table; empty: found by its name")
    item_column: str = setting("", prepare=True, description="column of the item; empty: found by its name")
    time_column: str = setting(
        "", prepare=True, description="column of the time; empty: found by its name; where there is none the order counts"
    )
    rating_column: str = setting("", prepare=True, description="column of the rating; empty: found by its name")
    action_column: str = setting("", prepare=True, description="column of the action, such as view or buy; empty: found by its name")
    encoding: str = setting("", prepare=True, description="encoding of text files, such as latin-1 or gb18030; empty: detected")
    min_rating: float = setting(
        0, prepare=True, description="lower ratings are no sign of interest and are left out; 0: every event counts"
    )
    k_core: int = setting(5, prepare=True, ge=1, description="people and items with fewer events are left out, until none is; 1: none")
    repeats: Literal["keep", "consecutive", "first"] = setting(
        "keep", prepare=True, description="the same item again: keep, drop when it follows itself, or keep the first event only"
    )
    session_hours: float = setting(
        0, prepare=True, ge=0, description="a pause of so many hours begins a new sequence; 0: one sequence per person"
    )
    ties: Literal["file", "item"] = setting(
        "file", prepare=True, description="events at the same time: in the order of the file, or by item"
    )
    split: Literal["leave_one_out", "time"] = setting(
        "leave_one_out",
        prepare=True,
        description="test on each sequence's last item, as papers do, or on all that came after a day, as in production",
    )
    test_share: float = setting(0.1, prepare=True, gt=0, lt=0.5, description="split by time: share of the events kept for the test")
    validation_share: float = setting(0.1, prepare=True, gt=0, lt=0.5, description="split by time: share of the events kept for validation")
    tolerance: float = setting(
        0.05, prepare=True, ge=0, le=1, description="share of unusable rows past which the run is refused before training"
    )
    filter_seen: Literal["auto", "yes", "no"] = setting(
        "auto", prepare=True, description="never recommend what a person had; auto: yes, unless one event in ten repeats an item"
    )
    focus_action: str = setting("", prepare=True, description="fine-tune and test on this action only, such as buy; pretraining sees all")
    focus_category: str = setting("", prepare=True, description="fine-tune and test on items of this category only; pretraining sees all")
    focus_days: float = setting(0, prepare=True, ge=0, description="fine-tune on the last so many days of the log only; 0: on all")

    model: Literal["sasrec", "gru4rec"] = Field(
        default="sasrec", description="what is trained: SASRec (self-attention) or GRU4Rec (recurrent)"
    )
    length: int = Field(default=50, ge=2, le=1000, description="events of the history that the network looks at")
    width: int = Field(default=64, ge=8, description="numbers per item and position")
    blocks: int = Field(default=2, ge=1, description="layers of self-attention, or of the recurrence")
    heads: int = Field(default=2, ge=1, description="of the self-attention; they divide the width")
    inner: int = Field(default=4, ge=1, description="width of the network at each place inside a block, in widths")
    item_rank: int = Field(default=0, ge=0, description="numbers stored per item, made wide by one matrix for all; 0: as many as the width")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="share of activations that training blanks")
    objective: Literal["auto", "softmax", "sampled", "gbce", "bce"] = Field(
        default="auto",
        description="softmax over all items, over a sample, gSASRec's calibrated cross-entropy, or SASRec's own; auto: softmax, sampled from 50,000 items",
    )
    negatives: int = Field(default=256, ge=1, description="items that a sampled objective sets against the right one")
    calibration: float = Field(default=0.75, ge=0, le=1, description="gSASRec's t: 0 as SASRec, 1 fully calibrated")

    exact_up_to: int = Field(
        default=100_000,
        ge=0,
        description="items; a larger catalogue is also searched by an approximate index inside the graph, a candidate like any other",
    )
    scanned: float = Field(default=0.03, gt=0, le=1, description="share of the catalogue that the approximate index looks at")
    student: bool = Field(default=True, description="also teach a student of about half the size; a candidate like any other")

    @property
    def monitor(self) -> str:
        return "ndcg@10"

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("history", "allowed")

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("item", "score")

    @classmethod
    def small(cls) -> Self:
        return cls(width=16, length=20)

    def data_digest(self) -> str:
        from usecases.reading.digests import data_digest
        from usecases.recommendation.layouts import files_beside

        return data_digest(self.data, *files_beside(self))

    def prepare(self, folder: Path, say: Say = silently) -> dict[str, Any]:
        from usecases.recommendation.prepare import prepare

        return prepare(self, folder, say)

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.recommendation.sequences import open_split

        return open_split(folder, split, self.length, focused=True)

    def calibration_inputs(self, folder: Path, rows: np.ndarray) -> Arrays:
        from usecases.recommendation.sequences import training_requests

        return training_requests(self, folder, rows)

    def pretraining(self) -> UseCase | None:
        """On all behaviour, where fine-tuning has a narrower aim."""
        if not (self.focus_action or self.focus_category or self.focus_days):
            return None
        return AllBehaviour(**self.model_dump())

    def baselines(self) -> dict[str, Baseline]:
        return {method: Baseline(**self.model_dump(), method=method) for method in get_args(Method)}

    def network(self, assets: Path) -> nn.Module:
        from usecases.recommendation.network import build_network

        return build_network(self, assets)

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        from usecases.recommendation.objective import next_item_loss

        return next_item_loss(self, network, batch)

    def student_usecase(self) -> UseCase | None:
        """Of the same width, without the parts that hold most weights: numbers per item, and half of the blocks' inner networks or of the recurrence."""
        if not self.student:
            return None
        pruned = {"inner": max(1, self.inner // 2)} if self.model == "sasrec" else {"blocks": max(1, self.blocks // 2)}
        rank = max(4, (self.item_rank or self.width) * 3 // 8)
        # a teacher is against overfitting too: on MovieLens-1M half the dropout gains .007 of NDCG@10
        return self.model_copy(update={**pruned, "item_rank": rank, "dropout": self.dropout / 2})

    def initialise_student(self, student: nn.Module, teacher: nn.Module) -> None:
        from usecases.recommendation.pruning import inherit

        inherit(cast("NextItem", student), cast("NextItem", teacher))

    def hidden_layers(self, network: nn.Module) -> list[nn.Module]:
        return cast("NextItem", network).layers()[1:-1]

    def attention_layers(self, network: nn.Module) -> list[nn.Module]:
        from usecases.transformer import attention_layers

        return attention_layers(network)

    def padding_mask(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return batch["history"] > 0

    def distillation_loss(
        self, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
    ) -> Tensor:
        from usecases.recommendation.objective import full_softmax_distillation_loss, objective_of

        if objective_of(self, student) == "softmax":  # in parts: the scores of a large catalogue do not fit into memory twice
            return full_softmax_distillation_loss(student, teacher, batch, weight, temperature)
        return super().distillation_loss(student, teacher, batch, weight, temperature)

    def logits(self, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        from usecases.recommendation.objective import compared

        return compared(self, network, batch)

    def approximation(self, assets: Path) -> UseCase | None:
        from usecases.recommendation.sequences import read_catalogue

        large = len(read_catalogue(assets)["items"]) > self.exact_up_to
        return NearItems(**self.model_dump()) if large else None

    def agreement(self, found: Arrays, expected: Arrays) -> dict[str, float]:
        from usecases.recommendation.scores import recall_of_exact

        return recall_of_exact(found, expected)

    def predictor(self, network: nn.Module) -> nn.Module:
        from usecases.recommendation.network import Recommender

        return Recommender(network)

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        from usecases.recommendation.scores import scores

        return scores(predict, self.examples(folder, split), folder, with_sampled=split == "test")

    def statistics(self, predict: Predict, folder: Path, split: Split) -> Statistics | None:
        from usecases.recommendation.scores import statistics

        return statistics(predict, self.examples(folder, split))

    def codec(self, assets: Path) -> Codec:
        from usecases.recommendation.codec import HistoryCodec

        return HistoryCodec(assets, self.length)

    def example_request(self, folder: Path) -> Path:
        return folder / "example.json"

    def explain(self, predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
        from usecases.recommendation.explaining import explain

        return explain(predict, codec, request)

    def figures(self, predict: Predict, folder: Path) -> dict[str, Any]:
        from usecases.recommendation.scores import figures

        return figures(predict, self.examples(folder, "test"), folder)


class AllBehaviour(Recommendation):
    """Pretraining: the next item whatever it is, over all that people did."""

    name: ClassVar[str] = "all_behaviour"

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.recommendation.sequences import open_split

        return open_split(folder, split, self.length, focused=False)


class NearItems(Recommendation):
    """The same network; only the items near its state are looked at, which pays where there are many."""

    def predictor(self, network: nn.Module) -> nn.Module:
        from usecases.recommendation.nearest import NearestItems

        return NearestItems(cast("NextItem", network), self.scanned)


class Baseline(Recommendation, Computed):
    """What is computed from the log in seconds, and what a trained network must beat to be released."""

    method: Method = Field(default="markov", description="popular, recent (popular of late), markov, itemknn or ease")

    def network(self, assets: Path) -> nn.Module:
        from usecases.recommendation.baselines import empty

        return empty(self, assets)

    def fit(self, network: nn.Module, folder: Path) -> None:
        from usecases.recommendation.baselines import fit

        fit(self, network, folder)
