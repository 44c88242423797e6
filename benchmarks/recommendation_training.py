"""Seconds of training to the same ndcg@10 (validation, full ranking), compared with a public SASRec in PyTorch on the same cores.

    git clone https://github.com/pmixer/SASRec.pytorch ../SASRec.pytorch
    python -m benchmarks.recommendation_training --peer ../SASRec.pytorch/python --data ../ml-1m/ml-1m.txt --minutes 10

The peer trains as in its main.py (its sampler, its network, binary cross-entropy with one negative, Adam) with its default settings. Its
time excludes scoring; ours includes it. Both are scored by our evaluator on the same queries. The result is the time in which each
reaches the best score of the peer within the given minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tasks.contract.types import Arrays
from tasks.settings import Fit
from tasks.training import launch
from usecases.recommendation import Recommendation
from usecases.recommendation.sequences import Events, read_catalogue

Curve = list[tuple[float, float]]
SCORED_EVERY = 2  # epochs of the peer
LENGTH = 200


def main() -> None:
    options = _options()
    usecase = Recommendation(data=options.data, k_core=1, length=LENGTH, width=options.width)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        (folder / "card.json").write_text(json.dumps(usecase.prepare(folder)))
        theirs = their_curve(Path(options.peer), usecase, folder, options.minutes)
        ours = our_curve(usecase, folder, options.minutes, Path(scratch) / "work")
    best = max(score for _, score in theirs)
    for name, curve in (("peer", theirs), ("ours", ours)):
        print(f"{name}: " + ", ".join(f"{score:.4f} after {seconds:.0f} s" for seconds, score in curve))
    their_seconds, our_seconds = reaching(theirs, best), reaching(ours, best)
    print(f"ndcg@10 of {best:.4f}: peer {their_seconds:.0f} s, ours {our_seconds:.0f} s, ratio {our_seconds / their_seconds:.2f}")


def reaching(curve: Curve, score: float) -> float:
    """Seconds until a score is reached; infinite if it is not."""
    return min((seconds for seconds, found in curve if found >= score), default=float("inf"))


def our_curve(usecase: Recommendation, data: Path, minutes: float, work: Path) -> Curve:
    curve: Curve = []
    started = time.monotonic()

    def watch(row: dict[str, Any]) -> None:
        score = row.get("score")
        if score is not None and (not curve or curve[-1][1] != score):
            curve.append((time.monotonic() - started, float(score)))

    launch.fit(usecase, data, Fit(epochs=1000, max_minutes=minutes, schedule="constant", weight_decay=0.01), work, on_progress=watch)
    return curve


def their_curve(checkout: Path, usecase: Recommendation, data: Path, minutes: float) -> Curve:
    """The training loop of the main.py of the peer over our events, without its output."""
    import torch

    sys.path.insert(0, str(checkout))
    from model import SASRec  # pyright: ignore[reportMissingImports]
    from utils import WarpSampler  # pyright: ignore[reportMissingImports]

    events = Events(data)
    histories = {user: events.items[start:stop].tolist() for user, (start, stop) in enumerate(events.splits["train"], 1)}
    settings = SimpleNamespace(device="cpu", hidden_units=50, maxlen=LENGTH, dropout_rate=0.2, num_blocks=2, num_heads=1, norm_first=False)
    sampler = WarpSampler(histories, len(histories), events.size, batch_size=128, maxlen=LENGTH, n_workers=3)
    network = SASRec(len(histories), events.size, settings)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.xavier_normal_(parameter.data)
    network.pos_emb.weight.data[0] = 0
    network.item_emb.weight.data[0] = 0
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.98))
    criterion = torch.nn.BCEWithLogitsLoss()
    curve: Curve = []
    trained, epoch = 0.0, 0
    while trained < 60 * minutes:
        network.train()
        started = time.monotonic()
        for _ in range((len(histories) - 1) // 128 + 1):
            users, sequence, right, wrong = map(np.array, sampler.next_batch())
            found, other = network(users, sequence, right, wrong)
            mask = np.where(right != 0)
            optimizer.zero_grad()
            loss = criterion(found[mask], torch.ones_like(found[mask])) + criterion(other[mask], torch.zeros_like(other[mask]))
            loss.backward()
            optimizer.step()
        trained, epoch = trained + time.monotonic() - started, epoch + 1
        if epoch % SCORED_EVERY == 0:
            curve.append((trained, their_score(network.eval(), usecase, data)))
    sampler.close()
    return curve


def their_score(network: Any, usecase: Recommendation, data: Path) -> float:
    import torch

    items = len(read_catalogue(data / "assets")["items"])

    def predict(inputs: Arrays) -> Arrays:
        with torch.no_grad():
            state = network.log2feats(inputs["history"])[:, -1]
            scores = (state @ network.item_emb.weight[1 : items + 1].T).masked_fill(~torch.from_numpy(inputs["allowed"]), float("-inf"))
            score, place = torch.topk(scores, 100)
        return {"item": place.numpy() + 1, "score": score.numpy()}

    return usecase.score(predict, data, "validation")[usecase.monitor]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="folder with model.py and utils.py of the peer")
    parser.add_argument("--data", required=True, help="an interaction log in a standard layout")
    parser.add_argument("--minutes", type=float, default=10, help="minutes of training for each")
    parser.add_argument("--width", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    main()
