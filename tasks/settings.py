"""Settings that all verticals share. Their descriptions are the documentation, which `--help` and the form in Prefect show."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.contract.records import Settings
from tasks.goals import EXAMPLES, read_goal


class Fit(Settings):
    """How to train a network."""

    epochs: int = Field(default=20, ge=1, description="passes over the training split")
    max_minutes: float = Field(default=0, ge=0, description="limit of wall time in minutes, to which the schedule is adjusted; 0: no limit")
    batch_size: int = Field(
        default=128,
        ge=0,
        description="examples per step over all devices; 0: the largest that fits into memory and still speeds up training",
    )
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="optimiser; sgd uses Nesterov momentum 0.9")
    learning_rate: float = Field(default=2e-3, gt=0, description="peak learning rate")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        default="one_cycle", description="learning rate schedule; cosine and constant start with a warm-up"
    )
    warmup: float = Field(default=0.1, ge=0, lt=1, description="fraction of the steps in which the learning rate rises")
    weight_decay: float = Field(default=0.05, ge=0, description="weight decay; not applied to normalisation layers and biases")
    gradient_clip: float = Field(default=1.0, ge=0, description="maximum norm of the gradient; 0: no clipping")
    accumulate: int = Field(default=1, ge=1, description="gradient accumulation: batches per optimiser step")
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="decay per step of the exponential moving average of the weights, which is validated and kept; 0: off",
    )
    patience: int = Field(default=0, ge=0, description="early stopping: epochs without a better validation score; 0: off")
    frozen_epochs: int = Field(default=0, ge=0, description="fine-tuning: epochs in which only the head is trained")
    lora: int = Field(
        default=0,
        ge=0,
        description="fine-tuning: rank of LoRA, which trains low-rank updates of the pretrained weights instead of the weights; 0: off",
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="fine-tuning: factor by which the learning rate decreases per layer towards the input; 1: off"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="numerical precision; auto: mixed precision if it is faster on the device"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="device to train on; auto: a GPU if there is one")
    devices: int = Field(default=0, ge=0, description="number of ranks; 0: one per GPU, or one on the CPU")
    threads: int = Field(default=0, ge=0, description="CPU threads of all ranks together; 0: all cores that are available to this process")
    seed: int = Field(default=0, ge=0, description="random seed; the same seed gives the same result on the same device")


class Pretraining(Fit):
    """How to pretrain the backbone without labels."""

    epochs: int = Field(default=5, ge=0, description="passes over the training split; 0: no pretraining")


class Adaptation(Fit):
    """How to fine-tune the trained network for a part of the data."""

    epochs: int = Field(default=20, ge=0, description="passes over that part and the rehearsed examples; 0: no adaptation")
    learning_rate: float = Field(default=5e-4, gt=0, description="peak learning rate; a small one limits forgetting")
    rehearsal: float = Field(
        default=0.5, ge=0, lt=1, description="fraction of the training examples that are from the rest of the data, which limits forgetting"
    )


class Distillation(Settings):
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


class Budget(Settings):
    """Limits on the quality, latency and size of a release, and the processor it is for."""

    goal: str = Field(
        default="",
        description=f"the budget in a sentence, such as {EXAMPLES}; it takes precedence over the other settings, and is refused unless all "
        "of it is understood; empty: none",
    )
    max_loss: float = Field(
        default=0.005,
        ge=0,
        description="largest drop of the main metric on validation that is accepted, compared with the best candidate that was not compressed",
    )
    max_relative_loss: float = Field(
        default=0,
        ge=0,
        lt=1,
        description="the same as a fraction of the score of that candidate, for metrics that stay well above 0; used in place of max_loss unless it is 0",
    )
    objective: Literal["latency", "size"] = Field(
        default="latency", description="choose the fastest or the smallest of the candidates within the budget"
    )
    max_latency_ms: float = Field(default=0, ge=0, description="largest p95 latency in milliseconds at batch size 1; 0: no limit")
    max_megabytes: float = Field(default=0, ge=0, description="largest size in megabytes (10^6 bytes); 0: no limit")
    target: Target = Field(
        default="this",
        description="processor to quantise for: that of this machine, x64 with VNNI, x64 with only AVX2, ARM, or a GPU with TensorRT, which adds fp16. "
        "Speed and quality are always measured on the CPU of this machine",
    )

    @model_validator(mode="before")
    @classmethod
    def _understood(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not str(given.get("goal", "")).strip():
            return given
        return {**given, **read_goal(str(given["goal"]))}

    def allowed(self, score: float) -> float:
        """The largest drop from a score that is accepted."""
        return self.max_relative_loss * abs(score) if self.max_relative_loss else self.max_loss
