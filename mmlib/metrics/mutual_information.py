"""How far the plausible classifiers disagree about a picture: mutual information of its label and the classifier.

A judge gives one answer, however strange the picture. With a Gaussian process for its last layer there are many
classifiers that explain the training items as well, and each can be asked. Where they disagree, the picture is unlike
what they know. That they agree is no proof of quality: they may agree on a wrong label.
"""

import hashlib
import warnings
from dataclasses import dataclass, replace

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mmlib.checks import check_has, one_of, positive, whole
from mmlib.data.cache import cache_root
from mmlib.metrics.classifiers import Classifiers, check_judges, stored
from mmlib.metrics.estimates import estimate
from mmlib.metrics.split import batches_of, device_of, whole_rows
from mmlib.progress import progress_bar
from mmlib.seeding import child

VERSION = 1  # change it when the fit changes, so that nothing old is read from the cache
ROWS = 500  # items at once, where nothing is trained
STRATEGY = "variational_strategy.base_variational_strategy"  # where GPyTorch keeps the inducing points


def mutual_information_score(probabilities: Tensor) -> Tensor:
    r"""What a label would tell about the classifier w that gives it, for each item: [N], nats, from 0 to log C.

    0 where all classifiers say the same, right or wrong, sure or not; log C where each is sure of one class and every
    class is named equally often.

    Equation: ``eq-mutual-information-score``. Source: Joy et al. 2022, Appendix H.2, with means over S draws of w.
        I(y, w | x) = H[ mean_s p(y | x, w_s) ] - mean_s H[ p(y | x, w_s) ],  H[p] = - sum_y p(y) log p(y)

    Args:
        probabilities: [S, N, C], what S classifiers give to C classes; each sums to 1 over classes.

    Raises:
        ValueError: for another shape, no classifier, or what are no probabilities, such as logits.
    """
    if probabilities.ndim != 3 or 0 in (probabilities.shape[0], probabilities.shape[2]):
        found = tuple(probabilities.shape)
        raise ValueError(f"probabilities has shape {found}; expected [S, N, C] with S and C of at least 1")
    away = (probabilities.detach().sum(-1) - 1).abs()
    if not bool((probabilities >= 0).all() and (away < 1e-4).all()):  # float32 is off by less
        raise ValueError("probabilities has negative numbers, or sums other than 1 over its last axis")
    mean = probabilities.mean(0)
    return torch.special.entr(mean).sum(-1) - torch.special.entr(probabilities).sum(-1).mean(0)


@dataclass(frozen=True)
class GaussianProcessJudge:
    """A judge with a Gaussian process for its last layer, from `gaussian_process_judge`: many classifiers in one."""

    classifiers: Classifiers  #: whose features are read.
    name: str  #: of the modality that is judged.
    process: nn.Module  #: features [B, F] to a normal for each latent function, mean and variance [B, C].
    centre: Tensor  #: mean of the features of the training items, [F].
    spread: Tensor  #: root of their mean squared distance from it.

    def to(self, device) -> "GaussianProcessJudge":
        """The same judge on ``device`` (networks are moved in place, as PyTorch does)."""
        numbers = {"centre": self.centre.to(device), "spread": self.spread.to(device)}
        return replace(
            self, classifiers=self.classifiers.to(device), process=self.process.to(device), **numbers
        )

    @torch.no_grad()
    def probabilities(self, images: Tensor, samples: int = 100, generator=None) -> Tensor:
        """What ``samples`` classifiers give to the classes of images [N, *shape] in [0, 1]: [S, N, C].

        A classifier is a draw of the latent functions; of each image on its own, which is all that its score asks for.

        Raises:
            ValueError: as ``Classifiers.features``.
        """
        samples, found = whole("samples", samples), []
        for part in images.split(ROWS):
            features = self.classifiers.features(self.name, part)
            latent = self.process((features - self.centre) / self.spread)
            noise = torch.randn(
                samples, *latent.mean.shape, generator=generator, device=features.device, dtype=features.dtype
            )
            found.append((latent.mean + latent.variance.sqrt() * noise).softmax(-1))
        return torch.cat(found, dim=1)


def gaussian_process_judge(
    classifiers: Classifiers,
    data,
    name: str,
    inducing: int = 100,
    epochs: int = 20,
    batch_size: int = 256,
    learning_rate: float = 1e-2,
    seed: int = 0,
    progress: bool = True,
) -> GaussianProcessJudge:
    """Put a sparse variational Gaussian process in the place of a judge's last layer; all before it stays as it is.

    One latent function a class, with a softmax on top; radial basis functions with a length scale for every feature,
    shared by the functions (ten of them then cost as much as one); inducing points begin at the k-means centres of each
    class, and are whitened. It sees the plain training items. Same arguments and machine: same process.

    Args:
        classifiers: of which one judges ``name`` and has features.
        data: a data set, whose training items and labels are used.
        name: of the modality.
        inducing: points, as many for each class.
        epochs: passes through the items.
        batch_size: items a step.
        learning_rate: of Adam.
        seed: of the k-means, the order of the items and the draws.
        progress: show a progress bar where somebody looks.

    Raises:
        ValueError: naming the argument.
        ModuleNotFoundError: without GPyTorch.

    Source: Joy et al. 2022, Appendix H.2, which says "sparse variational GP" and no setting: they are all ours.
    """
    check_judges(classifiers, [name])
    check_has("data", data, ["train"], "a data set, such as load('hand-street')")
    one_of("name", name, data.train.items)
    inducing, epochs, batch_size = (
        whole(n, v) for n, v in (("inducing", inducing), ("epochs", epochs), ("batch_size", batch_size))
    )
    learning_rate, seed = positive("learning_rate", learning_rate), whole("seed", seed, 0)
    items, network = data.train.items[name], classifiers.networks[name]
    device = device_of(network) if isinstance(network, nn.Module) else torch.device("cpu")
    parts = torch.arange(len(items)).split(ROWS)
    features = torch.cat([classifiers.features(name, items.batch(rows, device)) for rows in parts])
    labels = items.labels.to(device)
    classes = int(labels.max()) + 1
    fewest = int(labels.bincount(minlength=classes).min())
    if not classes <= inducing <= classes * fewest:
        raise ValueError(
            f"inducing is {inducing}; expected from {classes} to {classes * fewest}: one or more for each of the "
            f"{classes} classes, of which the smallest has {fewest} items"
        )
    centre = features.mean(0)
    spread = (features - centre).square().sum(-1).mean().sqrt()
    features = (features - centre) / spread  # now distances are of the order of the first length scale
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(child(seed, name, "gaussian process"))
        process, bound = _process(_centres(features, labels, inducing // classes, seed), classes, len(items))
        process, bound = process.to(device), bound.to(device)
        optimiser = torch.optim.Adam(bound.parameters(), learning_rate)
        with progress_bar(epochs, progress=progress, unit="epoch") as bar:
            for _ in range(epochs):
                for rows in torch.randperm(len(items)).to(device).split(batch_size):
                    optimiser.zero_grad()
                    (-bound(process(features[rows]), labels[rows])).backward()
                    optimiser.step()
                bar.update()
    return GaussianProcessJudge(classifiers, name, process.eval().requires_grad_(False), centre, spread)


def with_processes(classifiers: Classifiers, data, cache=None) -> Classifiers:
    """The same judges and, under ``processes``, what :func:`gaussian_process_judge` makes of each that judges images.

    Fitted once and kept, as the judges themselves are: ``data`` and ``cache`` as in
    :func:`mmlib.metrics.train_classifiers`, whose result ``classifiers`` is. Raises as these two do.
    """
    images = [n for n in classifiers.networks if n not in data.symbols and classifiers.has_features(n)]
    weights = {n: hashlib.sha256(save(classifiers.networks[n].state_dict())).hexdigest() for n in images}
    facts = {"processes": VERSION, "data": data.provenance, "judges": weights}

    def make() -> dict[str, Tensor]:
        tensors = {}
        for name in images:
            judge = gaussian_process_judge(classifiers, data, name, progress=False)
            numbers = judge.process.state_dict() | {"centre": judge.centre, "spread": judge.spread}
            tensors |= {f"{name}/{key}": x.cpu().contiguous() for key, x in numbers.items()}
        return tensors

    tensors = make() if cache is False else stored(cache_root(cache), f"processes-{data.name}", facts, make)
    found = {}
    for name in images:
        own = {k.removeprefix(f"{name}/"): x for k, x in tensors.items() if k.startswith(f"{name}/")}
        numbers = {key: own.pop(key) for key in ("centre", "spread")}
        points, classes = own[f"{STRATEGY}.inducing_points"], len(own["mean_module.raw_constant"])
        process, _ = _process(points, classes, 1)
        process.load_state_dict(own)
        process.eval().requires_grad_(False)
        found[name] = GaussianProcessJudge(classifiers, name, process, **numbers)
    return replace(classifiers, processes=found)


@torch.no_grad()
def evaluate_mutual_information(
    model, split, classifiers: Classifiers, generator=None, max_rows: int = 1000, batch_size: int = 500
) -> dict[str, dict[str, dict]]:
    """Mean score of what a model draws of a modality given another, or itself: ``[given][generated]``, nats.

    One draw for each of the first ``max_rows`` rows that observe everything, scored by 100 classifiers, for every
    modality that has one of ``classifiers.processes``. An estimate as from :func:`mmlib.metrics.estimates.estimate`.

    Source: Joy et al. 2022, Table 6, whose entries are of reconstructions: ``[name][name]``.
    """
    names, among = list(model.modalities), whole_rows(split, list(model.modalities))
    having = [name for name in names if name in classifiers.processes]
    scores = {given: {name: [] for name in having} for given in names}
    for _, batch in batches_of(model, split, batch_size, max_rows, among=among):
        for given, row in scores.items():
            drawn = model.generate(batch, [given], having, generator)
            for name, found in row.items():
                told = classifiers.processes[name].probabilities(drawn[name], 100, generator)
                found.append(mutual_information_score(told).cpu())
    return {
        given: {
            name: estimate(torch.cat(found), split.original(given, among[:max_rows]).cpu())
            for name, found in row.items()
        }
        for given, row in scores.items()
    }


def _centres(features: Tensor, labels: Tensor, each: int, seed: int) -> Tensor:
    """The k-means centres of every class, [C each, F]."""
    from sklearn.cluster import KMeans

    groups = [features[labels == c].cpu().numpy() for c in labels.unique()]
    found = [
        KMeans(each, n_init=1, random_state=seed % 2**32).fit(group).cluster_centers_ for group in groups
    ]
    return torch.cat([torch.as_tensor(centres) for centres in found]).to(features)


def _process(points: Tensor, classes: int, items: int) -> tuple[nn.Module, nn.Module]:
    """The process, and the ELBO of its parameters: a mean over the items of a batch, nats an item."""
    with warnings.catch_warnings():  # of torch, about what GPyTorch uses of it
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            import gpytorch
        except ModuleNotFoundError as error:
            needs = "gaussian_process_judge needs GPyTorch: pip install gpytorch"
            raise ModuleNotFoundError(needs, name=error.name) from error
    each = torch.Size([classes])

    class Process(gpytorch.models.ApproximateGP):
        def __init__(self):
            weights = gpytorch.variational.CholeskyVariationalDistribution(len(points), batch_shape=each)
            whitened = gpytorch.variational.VariationalStrategy(self, points, weights)
            strategy = gpytorch.variational.IndependentMultitaskVariationalStrategy
            super().__init__(strategy(whitened, num_tasks=classes))
            self.mean_module = gpytorch.means.ConstantMean(batch_shape=each)
            kernel = gpytorch.kernels.RBFKernel(ard_num_dims=points.shape[1])
            self.covar_module = gpytorch.kernels.ScaleKernel(kernel)

        def forward(self, x: Tensor):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    process = Process()
    likelihood = gpytorch.likelihoods.SoftmaxLikelihood(num_classes=classes, mixing_weights=False)
    return process, gpytorch.mlls.VariationalELBO(likelihood, process, num_data=items)
