"""Multimodal generative models: the objectives, networks, data, metrics and recorded runs of the book."""

__version__ = "0.1.0"


def load(recipe, seed: int = 0, device: str = "cpu", cache=None):
    """A trained model of the book, and its data set: ``model, data = mmlib.load("hand-street-mmvae-elbo")``.

    Needs the repository, where the weights are, and ``pip install -e ".[runs]"``. All else, and what goes wrong, is in
    :func:`mmlib.runs.trained.load_recorded`.
    """
    from mmlib.runs.trained import load_recorded

    return load_recorded(recipe, seed, device, cache)
