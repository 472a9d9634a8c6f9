"""What a training step costs, as ``data/speed.yaml`` has it."""

import statistics
import time
from collections.abc import Mapping

from mmlib.files import REPOSITORY, read_yaml

SPEED = REPOSITORY / "data" / "speed.yaml"


def measured(table: str) -> tuple[list[dict], str]:
    """The rows of a table of ``tests/bench.py``, and where and when they were measured; none before that."""
    found = read_yaml(SPEED).get(table)
    return (found["rows"], f"{found['hardware']}, {found['date']}") if found else ([], "")


def live_steps(names: Mapping[str, str], data, steps: int = 5):
    """Processor milliseconds of a training step of some recipes, label -> name, as they are now, as a `Table`.

    The median of ``steps`` steps on one batch of the recipe's size, after one that does not count.
    """
    import torch  # here, since pages that only read the file do without

    from mmlib.plots.results import table
    from mmlib.runs import build, recipes
    from mmlib.seeding import generator

    body: list[list[object]] = []
    for label, name in names.items():
        recipe, spent = recipes.get(name), []
        model = build.build_model(recipe, data, 0).train()
        optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate)
        batch, draw = data.train.batch(torch.arange(recipe.batch_size)), generator(0)
        for _ in range(steps + 1):
            began = time.process_time()
            optimizer.zero_grad()
            model.loss(batch, generator=draw)[0].backward()
            optimizer.step()
            spent.append(1000 * (time.process_time() - began))
        body.append([label, statistics.median(spent[1:])])
    first = body[0][1]
    rows = [[label, f"{ms:.0f}", f"{ms / first:.1f}"] for label, ms in body]
    return table(["a training step", "ms of one core", f"times {body[0][0]}'s"], rows)
