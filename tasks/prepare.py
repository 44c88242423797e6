"""Read, check and split the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefect import task

from tasks import store
from tasks.contract.artifacts import Dataset
from tasks.contract.capabilities import resolved
from tasks.contract.usecase import UseCase
from tasks.reporting.terminal import step


@task(persist_result=False)
def prepare(usecase: UseCase) -> Dataset:
    """The prepared data set of a use case.

    Raises:
        DataError: the data cannot be used; the message has the file, the reason and what to do.
    """

    def build(folder: Path) -> dict[str, Any]:
        card = usecase.prepare(folder, progress.say)
        (folder / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False))
        return {"usecase": usecase, "sizes": card["sizes"]}

    read = {name: getattr(usecase, name) for name in sorted(usecase.prepare_settings())}
    settings = {"usecase": type(usecase), "read": read, "data": usecase.data_digest()}
    with step("prepare") as progress:
        dataset, progress.cached = store.make(Dataset, settings, build, step="prepare")
        progress.detail = ", ".join(f"{count:,} {split}" for split, count in dataset.sizes.items())
    return dataset.model_copy(
        update={"usecase": resolved(usecase, dataset.card)}
    )  # the prepared data may be shared by several settings of the network
