"""Settings that are the same for every vertical. The descriptions are the documentation: help and form show them."""

from __future__ import annotations

from typing import Any, Literal

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


class Distillation(Record):
    """How a small student learns from a larger teacher."""

    bundle: str = Field(
        default="",
        description="folder of a bundle whose model is the teacher, in place of the trained network; it has to output probabilities of the "
        "same classes and may be of any size",
    )
    weight: float = Field(
        default=0.5, ge=0, le=1, description="weight of the distance to the teacher's predictions in the loss; the labels have the rest"
    )
    temperature: float = Field(
        default=1.0, gt=0, description="temperature of the softmax of teacher and student; above 1, small differences count for more"
    )
    hidden: float = Field(
        default=0.0,
        ge=0,
        description="weight of the distance between the hidden states of student and teacher, which is added to the loss; the distance is 0 "
        "for equal and 2 for unrelated states; 0: off",
    )
    attention: float = Field(
        default=0.0,
        ge=0,
        description="weight of the distance between the attention maps of student and teacher, which is added to the loss; only for "
        "networks of this project that have attention; 0: off",
    )


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
        default=0,
        ge=0,
        lt=1,
        description="the same as a share of that candidate's score, for scores that stay well above 0; used in place of max_loss where it is not 0",
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
