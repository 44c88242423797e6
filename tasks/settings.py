"""Settings that are the same for every vertical. The descriptions are the documentation: help and form show them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.contract.records import Record
from tasks.goals import EXAMPLES, read_goal


class Fit(Record):
    """How to fit a network."""

    epochs: int = Field(default=20, ge=0, description="passes over the training split; 0 skips this training where it can be skipped")
    max_minutes: float = Field(default=0, ge=0, description="budget of wall time in minutes; the schedule is fitted into it; 0: none")
    batch_size: int = Field(default=128, ge=0, description="examples per step over all devices; 0: the largest that fits and pays")
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="SGD is with Nesterov momentum 0.9")
    learning_rate: float = Field(default=2e-3, gt=0, description="peak learning rate")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(default="one_cycle", description="cosine and constant follow a warm-up")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(default=0.05, ge=0, description="not applied to norms and biases")
    gradient_clip: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0: no clipping")
    accumulate: int = Field(default=1, ge=1, description="batches per optimiser step")
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay per step of the averaged weights that are validated and kept; 0: off")
    patience: int = Field(default=0, ge=0, description="epochs without a better validation score before stopping early; 0: never")
    frozen_epochs: int = Field(default=0, ge=0, description="fine-tuning: epochs in which only the head learns")
    lora: int = Field(
        default=0,
        ge=0,
        description="fine-tuning: rank of the changes to the pretrained weights that are learnt in their place (LoRA); 0: off",
    )
    layer_decay: float = Field(default=1.0, gt=0, le=1, description="fine-tuning: factor of the learning rate per layer towards the input")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(default="auto", description="auto: mixed where the device gains by it")
    accelerator: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="where to train")
    devices: int = Field(default=0, ge=0, description="ranks; 0: every GPU, or one process on the CPU")
    threads: int = Field(default=0, ge=0, description="CPU threads of all ranks together; 0: the cores that are really available")
    seed: int = Field(default=0, ge=0, description="one seed, one result, on one device")


class Pretraining(Fit):
    """How to pretrain the backbone, without labels."""

    epochs: int = Field(default=5, ge=0, description="passes over the training split; 0: no pretraining")


class Adaptation(Fit):
    """How to fine-tune for a part of the data once everything has been learnt."""

    epochs: int = Field(default=20, ge=0, description="passes over that part and what is rehearsed with it; 0: no adaptation")
    learning_rate: float = Field(default=5e-4, gt=0, description="peak learning rate; small, so that little is forgotten")
    rehearsal: float = Field(default=0.5, ge=0, lt=1, description="share of the examples that are of the rest, against forgetting")


class Teaching(Record):
    """What a small student learns of the large network that teaches it."""

    bundle: str = Field(
        default="",
        description="folder of a bundle that teaches in the place of the trained network: a graph that tells probabilities of the same "
        "classes, however large",
    )
    weight: float = Field(default=0.5, ge=0, le=1, description="of the teacher's opinion in the loss; the rest is what was observed")
    temperature: float = Field(default=1.0, gt=0, description="above 1 the teacher's small differences count for more")
    hidden: float = Field(
        default=0.0,
        ge=0,
        description="weight of the distance of its hidden states from the teacher's, which is added to the loss: 0 for the same, 2 for "
        "unrelated states; 0: off",
    )
    attention: float = Field(
        default=0.0,
        ge=0,
        description="weight of the distance of what its attention looks at from the teacher's, which is added to the loss; networks of ours "
        "that attend; 0: off",
    )


class Pruning(Fit):
    """How to take the least important channels, hidden units and heads away once everything has been learnt, and to recover."""

    share: float = Field(
        default=0.0, ge=0, lt=1, description="of the channels, hidden units and heads of each layer that is taken away; 0: none"
    )
    rounds: int = Field(
        default=1, ge=1, description="little by little: rounds of taking some away and recovering, with so many epochs each"
    )
    epochs: int = Field(default=10, ge=1, description="passes over the training split to recover, in each round")
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate")

    @property
    def label(self) -> str:
        return f"pruned {100 * self.share:g} %"


class Sparsification(Fit):
    """How to fine-tune a trained network while many of its weights are held at zero: smaller when stored, no faster on a CPU."""

    share: float = Field(default=0.0, ge=0, lt=1, description="of the weights that become zero; 0: no sparsification")
    pattern: Literal["magnitude", "2:4"] = Field(
        default="magnitude", description="the smallest weights; or two of every four, a share of 0.5, for GPUs with sparse tensor cores"
    )
    scope: Literal["network", "layer"] = Field(
        default="network", description="the smallest weights of the whole network, or as many of each layer"
    )
    epochs: int = Field(default=10, ge=1, description="passes over the training split; in the first half zeros become more")
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate")


class Factorisation(Fit):
    """How to write the linear layers of a trained network as products of two thin matrices (low-rank factorisation), and to recover."""

    share: float = Field(default=0.0, ge=0, lt=1, description="of the weights that each linear layer before the head saves; 0: none")
    epochs: int = Field(default=10, ge=1, description="passes over the training split to recover")
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate")


class QuantizationAwareness(Fit):
    """How to fine-tune a trained network with the rounding of int8, so that it loses less when it is quantised."""

    epochs: int = Field(default=0, ge=0, description="passes over the training split; a few do; 0: no such training")
    bits: int = Field(default=8, ge=2, le=8, description="of the weights; fewer are smaller when stored, but no faster")
    learning_rate: float = Field(default=2e-4, gt=0, description="peak learning rate; small, since little has to change")


class Compression(Fit):
    """How far to go in making a trained network smaller, and how to recover what each step loses."""

    epochs: int = Field(default=0, ge=0, description="passes over the training split to recover after pruning; 0: quantisation alone")
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate")
    search_minutes: float = Field(
        default=0, ge=0, description="of wall time, after which nothing more is tried; what was tried is remembered; 0: any"
    )
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        description="of channels, hidden units and heads, of which the largest that the budget of quality allows is looked for, the middle "
        "one first; none: no pruning",
    )
    rounds: int = Field(default=1, ge=1, description="of taking some away and recovering, for each share")
    sparsity: float = Field(
        default=0.8,
        ge=0,
        lt=1,
        description="share of weights that become zero, where the budget is of size: stored smaller, no faster; 0: none",
    )

    def recovering(self) -> dict[str, Any]:
        """The settings of its fits."""
        return {name: getattr(self, name) for name in Fit.model_fields}


Target = Literal["this", "vnni", "avx2", "arm", "gpu"]


class Budget(Record):
    """What a release may cost and lose, and what it is to run on."""

    goal: str = Field(
        default="",
        description=f"the budget in a sentence, such as {EXAMPLES}; it takes precedence over the other settings, and is refused unless all "
        "of it is understood",
    )
    max_loss: float = Field(
        default=0.005,
        ge=0,
        description="largest drop of the vertical's main score on validation that is accepted, against the best candidate that was not compressed",
    )
    max_relative_loss: float = Field(
        default=0, ge=0, lt=1, description="the same as a share of that candidate's score; used in place of max_loss where it is not 0"
    )
    objective: Literal["latency", "size"] = Field(
        default="latency", description="among those within the budget choose the fastest or the smallest"
    )
    max_latency_ms: float = Field(default=0, ge=0, description="p95 at batch 1; 0: any")
    max_megabytes: float = Field(default=0, ge=0, description="10^6 bytes; 0: any")
    target: Target = Field(
        default="this",
        description="processor to quantise for: this machine's; x64 with VNNI or with AVX2 alone; ARM; a GPU by TensorRT, which adds fp16. "
        "Speed and quality are measured on this machine's CPU all the same",
    )

    @model_validator(mode="before")
    @classmethod
    def _understood(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not str(given.get("goal", "")).strip():
            return given
        return {**given, **read_goal(str(given["goal"]))}

    def allowed(self, score: float) -> float:
        """How much of a score may be lost."""
        return self.max_relative_loss * abs(score) if self.max_relative_loss else self.max_loss
