"""Processor time and memory of a training step: beside another library, and as the work grows.

    python tests/bench.py                # beside MultiVae, where it is installed: the same networks, rows and optimiser
    python tests/bench.py --growth       # more modalities, more draws, wider networks
    python tests/bench.py --models       # every row of the whole picture on embedded data; --rounds 1 in eight minutes
    python tests/bench.py --contrast     # contrastive training, as unrelated tuples grow in number
    python tests/bench.py --supervision  # MEME, its codes in one pass of a decoder or each in its own
    python tests/bench.py --record       # all of it, kept in data/speed.yaml, from which the book prints its tables;
                                         # with the name of a table that one alone

Each measurement has a process of its own, on one thread; rounds alternate, so that a slow minute of the machine strikes
both sides. Leave the machine idle meanwhile: caches and memory traffic of other work change processor times too.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PAIR = {"mnist": (1, 28, 28), "svhn": (3, 32, 32)}
DREG = {"objective": "iwae_looser", "estimator": "squared"}
BESIDE = {  # name: model and options; the peer has the same under these names
    "MVAE": ("mvae", {}),
    "JMVAE": ("jmvae", {}),
    "MMVAE, squared weights, K = 1": ("mmvae", {**DREG, "k": 1}),
    "MMVAE, squared weights, K = 10": ("mmvae", {**DREG, "k": 10}),
}
DECODINGS = {  # per row and step, of m modalities with k draws: what theory says the step grows with
    "mvae": lambda m, k: 2 * m + (m + 1) / 2 * (m > 2),  # a further subset has 2 to m - 1 members
    "jmvae": lambda m, k: m,
    "telbo": lambda m, k: 2 * m,
    "mmvae": lambda m, k: k * m * m,
    "mopoe": lambda m, k: m,  # of 2^m - 1 subsets, whose products have a closed form
    "mmjsd": lambda m, k: m,
    "meme": lambda m, k: (k + 2) * (m * m if m > 2 else m),  # a code drawn and k others in every direction
    "mmali": lambda m, k: 2 * m,  # for either side
    "contrastive_jmvae": lambda m, k: m + NEGATIVES * m * exchanges(m),
    "contrastive_mvae": lambda m, k: DECODINGS["mvae"](m, k) + NEGATIVES * m * exchanges(m),
    "contrastive_mmvae": lambda m, k: k * m * m,  # of MMVAE, whatever the negatives
    "contrastive_mmjsd": lambda m, k: m + m * m,  # a draw from every expert serves all tuples
    # subsets whose members come from one row are drawn once, and the others for every tuple
    "contrastive_mopoe": lambda m, k: m + m * (2**m - 2) + NEGATIVES * m * exchanges(m) * (2 ** (m - 1) - 1),
}
NEGATIVES = 5
DRAWS = {"mmvae": DREG, "meme": {}}  # models with a number of draws, and what they have beside it


def exchanges(m: int) -> int:
    """How many modalities are exchanged in turn: of two it does not matter which."""
    return m if m > 2 else 1


TIGHT = {"objective": "iwae"}
CONTRAST = {  # a model beside its contrastive form; "own" is what it would cost if no draw served two tuples
    "MMVAE": ("mmvae", TIGHT),
    **{f"cI-MMVAE, N = {n}": ("contrastive_mmvae", {**TIGHT, "negatives": n}) for n in (1, 5, 16, 64)},
    **{
        f"cI-MMVAE, N = {n}, decodes of their own": (
            "contrastive_mmvae",
            TIGHT | {"negatives": n, "own": True},
        )
        for n in (1, 5, 16)
    },
    "MVAE": ("mvae", {}),
    "cI-MVAE, N = 5": ("contrastive_mvae", {}),
    "JMVAE": ("jmvae", {}),
    "cI-JMVAE, N = 5": ("contrastive_jmvae", {}),
    "MoPoE": ("mopoe", {}),
    "cI-MoPoE, N = 5": ("contrastive_mopoe", {}),
    "mmJSD": ("mmjsd", {}),
    "cI-mmJSD, N = 5": ("contrastive_mmjsd", {}),
}
SUPERVISION = {  # "apart" decodes one code at a time
    "MVAE": ("mvae", {}),
    "MEME, K = 10": ("meme", {}),
    "MEME, K = 10, a pass for each code": ("meme", {"apart": True}),
}


def growth() -> list[dict]:
    """What the second table measures: one thing is changed at a time."""
    models = [model for model in DECODINGS if not model.startswith("contrastive")]  # those have their own
    rows = [dict(model=model, m=m, k=1, width=1.0) for model in models for m in range(2, 7)]
    rows += [dict(model="mmvae", m=2, k=k, width=1.0) for k in (3, 10, 30)]
    return rows + [dict(model=model, m=2, k=1, width=width) for model in models for width in (0.5, 2.0)]


class Noise:
    """Rows of random pixels, as a split."""

    def __init__(self, shapes: dict, rows: int = 512):
        import torch

        draw = torch.Generator().manual_seed(0)
        self.x = {name: torch.rand(rows, *shape, generator=draw) for name, shape in shapes.items()}

    def __len__(self):
        return len(next(iter(self.x.values())))

    def batch(self, rows, device=None):
        return {name: x[rows] for name, x in self.x.items()}

    def mask(self, rows):
        return None

    def to(self, device):
        return self


def built(model: str, options: dict, shapes: dict, width: float = 1.0):
    """A model of the library with the papers' networks."""
    import torch

    from mmlib.models import get_model
    from mmlib.nets import ImageJointEncoder, JointEncoder, modalities

    torch.manual_seed(0)
    options = dict(options)
    own, apart = options.pop("own", False), options.pop("apart", False)
    if model.endswith("jmvae") or model == "telbo":
        joint = ImageJointEncoder if shapes == PAIR else JointEncoder
        options = {**options, "joint_encoder": joint(shapes, 20, width)}
    if model == "mmali":
        options = {"style_dim": 10, "factors": "binary", "unimodal": 0.1, **options}
    shared = 10 if model == "mmali" else 20
    made = get_model(model)(modalities(shapes, 20, width), shared, **options)
    if own:
        made._serves = lambda *_: False
    if apart:
        together = made._explain

        def one_by_one(z, *rest):
            found = [together(code, *rest) for code in z.split(1)]
            return {name: torch.cat([each[name] for each in found]) for name in found[0]}

        made._explain = one_by_one
    return made


def ours(model: str, options: dict, shapes: dict, width: float, seconds: float) -> list[float]:
    """Processor time after each step of the library's own loop."""
    from mmlib.train import fit, fit_adversarial

    loop = fit_adversarial if model == "mmali" else fit
    return stepping(loop, built(model, options, shapes, width), Noise(shapes), 128, seconds)


def recipe(name: str, seconds: float) -> list[float]:
    """Processor time after each step of a recipe of the catalogue, with its own data."""
    from mmlib.runs import build, recipes
    from mmlib.train import fit, fit_adversarial

    chosen = recipes.get(name)
    data, loop = build.build_data(chosen), fit_adversarial if chosen.model == "mmali" else fit
    return stepping(loop, build.build_model(chosen, data, 0), data.train, chosen.batch_size, seconds)


def stepping(loop, model, split, rows: int, seconds: float) -> list[float]:
    """Processor time after each step of a loop that is stopped after some seconds."""
    from mmlib.train import Paused

    times, end = [], time.perf_counter() + seconds

    def stop() -> bool:
        times.append(time.process_time())
        return len(times) > 8 and time.perf_counter() > end

    try:
        loop(model, split, 10**6, batch_size=rows, progress=False, stop=stop)
    except Paused:
        return times


def theirs(model: str, options: dict, shapes: dict, width: float, seconds: float) -> list[float]:
    """Processor time after each step of MultiVae's models, with the same encoders and decoders inside."""
    import torch
    from multivae import models
    from multivae.data.datasets import DatasetOutput
    from multivae.models.base import ModelOutput
    from multivae.models.nn.base_architectures import BaseJointEncoder
    from pythae.models.nn.base_architectures import BaseDecoder, BaseEncoder

    from mmlib.nets import ImageJointEncoder, modalities

    class Encode(BaseEncoder):
        def __init__(self, network):
            super().__init__()
            self.latent_dim, self.network = 20, network

        def forward(self, x):
            loc, raw = self.network(x)
            return ModelOutput(embedding=loc, log_covariance=raw)

    class EncodeJointly(Encode, BaseJointEncoder):
        pass

    class Decode(BaseDecoder):
        def __init__(self, network):
            super().__init__()
            self.latent_dim, self.network = 20, network

        def forward(self, z):
            pixels = self.network(z.flatten(0, -2))
            return ModelOutput(reconstruction=pixels.unflatten(0, z.shape[:-1]))

    def plain(network):
        """With convolutions as PyTorch computes them: the library's faster ones are no merit of the peer's."""
        for module in network.modules():
            for usual in (torch.nn.Conv2d, torch.nn.ConvTranspose2d):
                if isinstance(module, usual):
                    module.__class__ = usual
        return network

    torch.manual_seed(0)
    parts = [plain(part) for part in modalities(shapes, 20, width)]
    encoders = {part.name: Encode(part.encoder) for part in parts}
    decoders = {part.name: Decode(part.decoder) for part in parts}
    common = dict(
        n_modalities=len(shapes),
        latent_dim=20,
        input_dims=shapes,
        decoders_dist=dict.fromkeys(shapes, "laplace"),
        decoder_dist_params={name: {"scale": 0.75} for name in shapes},
    )
    if model == "mvae":
        made = models.MVAE(models.MVAEConfig(**common), encoders, decoders)
    elif model == "jmvae":
        joint = EncodeJointly(plain(ImageJointEncoder(shapes, 20, width)))
        made = models.JMVAE(models.JMVAEConfig(**common), encoders, decoders, joint_encoder=joint)
    else:
        config = models.MMVAEConfig(K=options["k"], loss="dreg_looser", **common)
        made = models.MMVAE(config, encoders, decoders)
    made.train()
    batch = DatasetOutput(data=Noise(shapes, 128).x, labels=torch.zeros(128))
    adam = torch.optim.Adam(made.parameters(), lr=1e-3)
    times, end = [time.process_time()], time.perf_counter() + seconds
    while len(times) < 9 or time.perf_counter() < end:
        loss = made(batch, epoch=1, dataset_size=1000, uses_ddp=False, batch_ratio=0.0, beta=1).loss
        adam.zero_grad()
        loss.backward()
        adam.step()
        times.append(time.process_time())
    return times


def once(side: str, **job) -> dict:
    """Milliseconds a step (median, the first steps left out) and the process's peak memory, in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps({"side": side, **job})]
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side} {job}: {done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def one(side: str, **job) -> None:
    """What the process of one measurement does."""
    import torch

    torch.set_num_threads(1)
    times = {"ours": ours, "theirs": theirs, "recipe": recipe}[side](**job)
    steps = [1e3 * (after - before) for before, after in zip(times[2:], times[3:], strict=False)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"ms": statistics.median(steps), "mb": peak}))


def beside(rounds: int, seconds: float) -> list[dict]:
    """Both libraries in turn; medians over rounds."""
    sides, rows = ["ours", "theirs"], []
    try:
        import multivae  # noqa: F401
    except ImportError:
        print("MultiVae is not installed: only this library is measured", file=sys.stderr)
        sides = ["ours"]
    for name, (model, options) in BESIDE.items():
        job = {"model": model, "options": options, "shapes": PAIR, "width": 1.0, "seconds": seconds}
        found = {side: [] for side in sides}
        for _ in range(rounds):
            for side in sides:
                found[side].append(once(side, **job))
        row = {"step": name}
        for side, values in found.items():
            for unit in ("ms", "mb"):
                row[f"{side}_{unit}"] = round(statistics.median(value[unit] for value in values), 1)
        rows.append(row)
        print(row, flush=True)
    return rows


def grown(seconds: float) -> list[dict]:
    """One measurement of each size; modalities are grey pictures of 16 x 16 pixels."""
    rows = []
    for size in growth():
        model, k = size["model"], size["k"]
        shapes = {f"x{i}": (1, 16, 16) for i in range(size["m"])}
        options = {**DRAWS[model], "k": k} if model in DRAWS else {}
        found = once(
            "ours", model=model, options=options, shapes=shapes, width=size["width"], seconds=seconds
        )
        work = DECODINGS[model](size["m"], k)
        rows.append(
            {**size, "decodings": round(work, 1), "ms": round(found["ms"], 1), "mb": round(found["mb"])}
        )
        print(rows[-1], flush=True)
    return rows


def medians(key: str, found: dict[str, list[dict]]) -> list[dict]:
    """A row for each name, which stands under ``key``: medians of what was measured."""
    rows = [
        {key: name}
        | {unit: round(statistics.median(value[unit] for value in values), 1) for unit in ("ms", "mb")}
        for name, values in found.items()
    ]
    print(*rows, sep="\n", flush=True)
    return rows


def protocol(rounds: int, seconds: float) -> list[dict]:
    """The rows of the whole picture on embedded data in turn; medians over rounds."""
    from mmlib.book import whole_picture as picture

    rows = [row for data in ("hand-street", "hand-street-text") for row in picture.rows(data)]
    found = {row.recipe.name: [] for row in rows if row.recipe}
    for _ in range(rounds):
        for name, values in found.items():
            values.append(once("recipe", name=name, seconds=seconds))
    return medians("recipe", found)


def in_turn(steps: dict, rounds: int, seconds: float) -> list[dict]:
    """Steps of the table ``CONTRAST`` or ``SUPERVISION`` in turn; medians over rounds."""
    found = {name: [] for name in steps}
    for _ in range(rounds):
        for name, (model, options) in steps.items():
            job = {"model": model, "options": options, "shapes": PAIR, "width": 1.0, "seconds": seconds}
            found[name].append(once("ours", **job))
    return medians("step", found)


def main() -> None:
    """Measure, print, and keep if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--growth", action="store_true", help="the second table instead")
    parser.add_argument("--models", action="store_true", help="the third table instead")
    parser.add_argument("--contrast", action="store_true", help="the fourth table instead")
    parser.add_argument("--supervision", action="store_true", help="the fifth table instead")
    parser.add_argument("--record", action="store_true", help="keep it; without another name all of them")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(**json.loads(options.one))
        return
    measures = {
        "beside": lambda: beside(options.rounds, options.seconds),
        "growth": lambda: grown(options.seconds),
        "models": lambda: protocol(options.rounds, options.seconds),
        "contrast": lambda: in_turn(CONTRAST, options.rounds, options.seconds),
        "supervision": lambda: in_turn(SUPERVISION, options.rounds, options.seconds),
    }
    chosen = [name for name in measures if getattr(options, name, False)]
    wanted = chosen or (list(measures) if options.record else ["beside"])
    tables = {name: measures[name]() for name in wanted}
    if options.record:
        record(tables)


def record(tables: dict[str, list[dict]]) -> None:
    """Keep the tables in data/speed.yaml, each with where and when it was measured; other tables stay."""
    import importlib.metadata

    import yaml

    from mmlib.files import read_yaml, write_atomically
    from mmlib.runs.provenance import hardware

    installed = {each.metadata["Name"] for each in importlib.metadata.distributions()}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "multivae") if name in installed}
    facts = {"date": date.today().isoformat(), "hardware": hardware(), "versions": versions}
    path = ROOT / "data" / "speed.yaml"
    kept = read_yaml(path) | {name: {**facts, "rows": rows} for name, rows in tables.items()}
    text = yaml.safe_dump(kept, sort_keys=False, default_flow_style=None, width=120)
    print(write_atomically(path, text.encode()))


if __name__ == "__main__":
    main()
