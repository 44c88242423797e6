"""Fine-tuning of a large network with few trainable parameters (LoRA, Hu 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.contract.errors import SettingError
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import nn

    from tasks.training.learner import Learner

SCALE = 2  # lora_alpha divided by the rank: with it, the same learning rate suits all ranks


class LoRA(Technique):
    """LoRA: low-rank adapters are trained for the frozen linear layers of the backbone; the head is trained as usual.

    In the end the adapters are merged into the weights, so that the network keeps its shape and its speed.
    """

    rank: int = Field(ge=1, description="rank of the adapters")

    def before(self, learner: Learner) -> None:
        add_adapters(learner.network, self.rank)

    def after(self, network: nn.Module) -> None:
        merge(network)


def add_adapters(network: nn.Module, rank: int) -> None:
    """Freeze all layers before the head, the last of `layers()`, and add an adapter to each linear layer among them.

    Raises:
        SettingError: there is no linear layer before the head.
    """
    from peft.tuners.lora import LoraConfig, LoraModel
    from torch import nn

    head = list(network.layers())[-1]  # pyright: ignore[reportCallIssue, reportArgumentType]
    in_head = set(head.modules())
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear) and module not in in_head]
    if not names:
        raise SettingError(f"--fit.lora {rank}: this network has no linear layers before its head. Set it to 0, or choose another network.")
    LoraModel(network, LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=names), "default")
    for parameter in head.parameters():
        parameter.requires_grad_(True)


def merge(network: nn.Module) -> None:
    """Merge the adapters into the weights, and remove them."""
    from peft.tuners.lora import LoraLayer
    from torch import nn

    for name, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            base = module.get_base_layer()
            assert isinstance(base, nn.Module)
            network.set_submodule(name, base)
