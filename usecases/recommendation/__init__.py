"""Sequential recommendation: the next items of a user, predicted from a log of events."""

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
from usecases.reading.digests import DataName

if TYPE_CHECKING:
    from torch import Tensor, nn

    from usecases.recommendation.network import NextItem

Method = Literal["popular", "recent", "markov", "itemknn", "ease"]


class Recommendation(
    UseCase, Pretrainable, HasBaselines, Distillable, HasHiddenStates, HasApproximation, HasStatistics, Explainable, HasFigures
):
    """Recommends the items that a user is most likely to interact with next, given the history of the user."""

    name: ClassVar[str] = "recommendation"

    data: DataName = setting(
        "sample", prepare=True, description="'sample' (simulated shoppers), a folder or file in a standard layout, or hf://owner/name"
    )
    user_column: str = setting("", prepare=True, description="column of the user in a table; empty: detected by its name")
    item_column: str = setting("", prepare=True, description="column of the item; empty: detected by its name")
    time_column: str = setting(
        "", prepare=True, description="column of the time; empty: detected by its name; without times the order of the rows counts"
    )
    rating_column: str = setting("", prepare=True, description="column of the rating; empty: detected by its name")
    action_column: str = setting("", prepare=True, description="column of the action, such as view or buy; empty: detected by its name")
    encoding: str = setting("", prepare=True, description="encoding of text files, such as latin-1 or gb18030; empty: detected")
    min_rating: float = setting(
        0,
        prepare=True,
        description="smallest rating of an event that counts; events with lower ratings are left out; 0: every event counts",
    )
    k_core: int = setting(
        5,
        prepare=True,
        ge=1,
        description="users and items with fewer events are removed, repeatedly, until none is left; 1: none is removed",
    )
    repeats: Literal["keep", "consecutive", "first"] = setting(
        "keep",
        prepare=True,
        description="repeated items: keep every event, drop consecutive repeats, or keep only the first event of an item",
    )
    session_hours: float = setting(0, prepare=True, ge=0, description="hours of inactivity that end a session; 0: one sequence per user")
    ties: Literal["file", "item"] = setting(
        "file", prepare=True, description="order of events at the same time: that of the file, or by item"
    )
    split: Literal["leave_one_out", "time"] = setting(
        "leave_one_out",
        prepare=True,
        description="test on the last item of each sequence, as papers do, or on all events after a point in time, as in production",
    )
    test_share: float = setting(0.1, prepare=True, gt=0, lt=0.5, description="split by time: share of the events used for the test")
    validation_share: float = setting(0.1, prepare=True, gt=0, lt=0.5, description="split by time: share of the events used for validation")
    tolerance: float = setting(
        0.05, prepare=True, ge=0, le=1, description="largest accepted share of unusable rows; a larger one stops the run before training"
    )
    filter_seen: Literal["auto", "yes", "no"] = setting(
        "auto",
        prepare=True,
        description="do not recommend items of the user's history; auto: yes, unless at least 10 % of the events repeat an item",
    )
    focus_action: str = setting(
        "", prepare=True, description="fine-tune and test on events with this action only, such as buy; pretraining uses all events"
    )
    focus_category: str = setting(
        "", prepare=True, description="fine-tune and test on items of this category only; pretraining uses all events"
    )
    focus_days: float = setting(0, prepare=True, ge=0, description="fine-tune on the last days of the log only, this many; 0: on all of it")

    model: Literal["sasrec", "gru4rec"] = Field(
        default="sasrec", description="architecture of the network: SASRec (self-attention) or GRU4Rec (recurrent)"
    )
    length: int = Field(default=50, ge=2, le=1000, description="maximum sequence length: number of latest events that the network reads")
    width: int = Field(default=64, ge=8, description="hidden size, also of the embeddings of items and positions")
    blocks: int = Field(default=2, ge=1, description="number of self-attention blocks, or of recurrent layers")
    heads: int = Field(default=2, ge=1, description="number of attention heads; the width must be a multiple of it")
    inner: int = Field(default=4, ge=1, description="size of the feed-forward layer of a block, as a multiple of the width")
    item_rank: int = Field(default=0, ge=0, description="rank of factorised item embeddings; 0: embeddings of the full width")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="dropout rate")
    objective: Literal["auto", "softmax", "sampled", "gbce", "bce"] = Field(
        default="auto",
        description="training loss: softmax over all items, softmax over sampled items, gSASRec's calibrated cross-entropy (gbce), "
        "or SASRec's binary cross-entropy (bce); auto: softmax, or sampled for catalogues of 50,000 items or more",
    )
    negatives: int = Field(default=256, ge=1, description="number of negative items that are sampled by the losses sampled and gbce")
    calibration: float = Field(
        default=0.75, ge=0, le=1, description="calibration parameter t of gbce: 0 is binary cross-entropy, 1 is fully calibrated"
    )

    exact_up_to: int = Field(
        default=100_000,
        ge=0,
        description="number of items up to which a catalogue is searched exactly; for a larger one an approximate index is another candidate",
    )
    scanned: float = Field(default=0.03, gt=0, le=1, description="share of the catalogue that the approximate index scores")
    student: bool = Field(default=True, description="also distil a student of about half the size, as another candidate")

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
        from usecases.recommendation.layouts import catalogue_files_of

        return data_digest(self.data, *catalogue_files_of(self))

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
        """Pretraining on all events, if fine-tuning is on some of them only; else None."""
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
        """A student of the same width with fewer weights: item embeddings of lower rank, and half of the feed-forward or recurrent layers."""
        if not self.student:
            return None
        pruned = {"inner": max(1, self.inner // 2)} if self.model == "sasrec" else {"blocks": max(1, self.blocks // 2)}
        rank = max(4, (self.item_rank or self.width) * 3 // 8)
        # the teacher's targets regularise too: on MovieLens-1M half the dropout gains .007 of NDCG@10
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

        if objective_of(self, student) == "softmax":  # in chunks, since the scores of a large catalogue do not fit into memory twice
            return full_softmax_distillation_loss(student, teacher, batch, weight, temperature)
        return super().distillation_loss(student, teacher, batch, weight, temperature)

    def logits(self, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        from usecases.recommendation.objective import sampled_logits

        return sampled_logits(self, network, batch)

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
    """Pretraining: predicts the next item of every event, without a focus."""

    name: ClassVar[str] = "all_behaviour"

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.recommendation.sequences import open_split

        return open_split(folder, split, self.length, focused=False)


class NearItems(Recommendation):
    """The same network with an approximate search of the items nearest to its state, for large catalogues."""

    def predictor(self, network: nn.Module) -> nn.Module:
        from usecases.recommendation.nearest import NearestItems

        return NearestItems(cast("NextItem", network), self.scanned)


class Baseline(Recommendation, Computed):
    """A baseline that is computed from the log in seconds. A network must beat it to be released."""

    method: Method = Field(
        default="markov",
        description="popular, recent (popular recently), markov (Markov chain), itemknn (item-based neighbours) or ease (EASE)",
    )

    def network(self, assets: Path) -> nn.Module:
        from usecases.recommendation.baselines import empty

        return empty(self, assets)

    def fit(self, network: nn.Module, folder: Path) -> None:
        from usecases.recommendation.baselines import fit

        fit(self, network, folder)
