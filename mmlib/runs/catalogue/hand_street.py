"""Recipes on hand-street, the embedded pair: minutes on one thread."""

import dataclasses

from mmlib.runs.catalogue.settings import BINARY, GAUSSIAN, KNOBS, QUICK, RATES, SHORT
from mmlib.runs.recipe import Recipe

RECIPES: list[Recipe] = []


def _add(name: str, model: str, source: str, reduced: str, **settings) -> None:
    settings |= {"dataset": "hand-street", "source": source, "reduced": reduced, "width": 0.5}
    RECIPES.append(Recipe(f"hand-street-{name}", model, **settings))


OWN = ("the book's own, embedded data", "embedded digits of 16x16 pixels, networks of half width")
SETTINGS = {"batch_size": 64, "learning_rate": 2e-3}
for _name in ("jmvae", "telbo"):
    _add(_name, _name, *OWN, steps=4_000, model_options={"joint_encoder": "features"}, **SETTINGS)
for _name in ("mvae", "mopoe", "mmjsd"):
    _add(_name, _name, *OWN, steps=4_000, **SETTINGS)
_add("mmvae-elbo", "mmvae", *OWN, steps=4_000, model_options={"objective": "elbo"}, **SETTINGS)
for _objective in ("iwae", "iwae_looser"):
    for _estimator in ("plain", "squared", "normalised"):
        _name = f"mmvae-{_objective.replace('_', '-')}-{_estimator}"
        _options = {"objective": _objective, "estimator": _estimator, "k": 4}
        _add(_name, "mmvae", *OWN, steps=2_000, model_options=_options, **SETTINGS)

# Contrastive: each model beside its two, cI and cC. Of MMVAE the bound with all draws inside the logarithm, which also
# estimates unrelated tuples; of MVAE and JMVAE the rows above are those of all data.
SHI = "Shi et al. 2021, {}, {}, {} % of the data, on the book's own, embedded data"
TIGHT = {"objective": "iwae"}
NEURAL = {"joint_encoder": "features"}


def _shi(name: str, model: str, shows: str, share: int, **options) -> None:
    part = {} if share == 100 else {"data_options": {"fraction": share / 100}}
    source = SHI.format(shows, name, share)
    name = name if share == 100 else f"{share}-{name}"
    _add(name, model, source, OWN[1], steps=4_000, model_options=options, **part, **SETTINGS)


for _model, _options in {"mmvae": TIGHT, "mvae": {}, "jmvae": NEURAL}.items():
    for _share in (10, 20, 50, 100) if _model == "mmvae" else (20, 100):
        _table = "Table 1" if _share in (20, 100) else "Figure 6"
        if _model == "mmvae" or _share < 100:
            _shi("mmvae-iwae" if _model == "mmvae" else _model, _model, _table, _share, **_options)
        for _name, _contrast in (("ci", "iwae"), ("cc", "cubo")):
            # with one draw of one component CUBO and IWAE are the same number
            _own = _options | {"contrast": _contrast} | ({} if _model == "mmvae" else {"contrast_k": 2})
            _own |= {"hold_proposal": True} if _model == "jmvae" else {}  # else all likelihoods are lost
            _shi(f"{_name}-{_model}", f"contrastive_{_model}", _table, _share, **_own)


# Label propagation: each goes on from the run above that was trained on few pairs, and for as many steps.
def _propagated(share: int, name: str, by: str = "pmi") -> None:
    few = next(recipe for recipe in RECIPES if recipe.name == f"hand-street-{share}-{name}")
    source = SHI.format("Figure 8", f"{name}, pairs added by {by}", share)
    ending = "propagated" if by == "pmi" else f"propagated-{by}"
    _add(
        f"{share}-{name}-{ending}", few.model, source, OWN[1], steps=4_000, model_options=few.model_options,
        data_options=few.data_options, propagation={"from": few.name, "by": by}, **SETTINGS,
    )  # fmt: skip


for _share in (10, 20, 50):
    for _name in ("mmvae-iwae", "ci-mmvae", "cc-mmvae"):
        _propagated(_share, _name)
for _by in ("siamese", "labels", "nothing"):
    _propagated(10, "ci-mmvae", _by)
for _name in ("mmvae-iwae", "cc-mmvae"):
    _propagated(10, _name, "nothing")
# The same search by a model that has not yet learned the few pairs by heart: a fifth of the steps.
RECIPES.append(
    dataclasses.replace(
        next(recipe for recipe in RECIPES if recipe.name == "hand-street-10-ci-mmvae"),
        name="hand-street-10-ci-mmvae-brief",
        source=SHI.format("beside Figure 8", "ci-mmvae, a fifth of the steps", 10),
        steps=800,
    )
)
_propagated(10, "ci-mmvae-brief")
# Twice the weight from which on nothing is won by codes that go astray, as it is for the others (`ContrastiveMMJSD`).
for _model, _weight in {"mopoe": {}, "mmjsd": {"gamma": 9.0}}.items():
    _shi(f"ci-{_model}", f"contrastive_{_model}", "no table, the book's own", 100, **_weight)
for _gamma in (1.0, 1.1, 4.0, 10.0):
    _shi(f"ci-mmvae-gamma-{_gamma:g}", "contrastive_mmvae", "Figure 11", 100, **TIGHT, gamma=_gamma)
# An oracle that knows which negatives are none; and cI against cC at more draws than one of each component.
_shi("ci-mmvae-filtered", "contrastive_mmvae", "beside Table 1", 20, **TIGHT, contrast="iwae", filtered=True)
for _name, _contrast in (("ci", "iwae"), ("cc", "cubo")):
    _shi(f"{_name}-mmvae-k-4", "contrastive_mmvae", "beside Table 1", 20, **TIGHT, contrast=_contrast, k=4)

# Mutual supervision, without and with its printed form; the number of pseudo-samples where a quarter of the rows is
# paired. A step makes 24 decodes a row, where that of MVAE makes four.
JOY = "Joy et al. 2022, {}, on the book's own, embedded data"
RELEASED = {"alpha": 10.0, "kl": "analytic"}
MEME = {
    "": ("Tables 3 and 4, as released", {}),
    "-alpha-1": ("Appendix B, as released but for a coefficient of 1", {"alpha": 1.0}),
    "-alpha-2": ("as released but for a coefficient of 2", {"alpha": 2.0}),
    "-alpha-5": ("as released but for a coefficient of 5", {"alpha": 5.0}),
    "-sampled": ("as released but for the log-ratio of Eq. 6 at the sample", {"kl": "sampled"}),
    "-printed": ("Eqs. 2, 6 and 8 as printed", {"alpha": 1.0, "kl": "sampled", "estimate": "sum"}),
    "-fresh": ("Appendix D: without the sample itself in Eq. 8", {"estimate": "fresh"}),
    "-whole-gradient": ("Appendix B: with both parts of Eq. 7", {"stop_gradient": False}),
}
for _name, (_text, _options) in MEME.items():
    _judges = "classifiers" if _name else "processes"  # Table 6
    _add(
        f"meme{_name}", "meme", JOY.format(_text), OWN[1], steps=4_000,
        model_options=RELEASED | _options, judges=_judges, **SETTINGS,
    )  # fmt: skip
for _number in (1, 10, 100):
    _text = f"Figure 21, {_number} pseudo-samples, f = 0.25, one or the other present"
    _add(
        f"meme-pseudo-{_number}", "meme", JOY.format(_text), OWN[1], steps=4_000,
        model_options=RELEASED | {"pseudo_samples": _number}, data_options={"paired": 0.25}, **SETTINGS,
    )  # fmt: skip

# Their baselines, of Gaussian codes, under the judges of Table 6, which nobody asked of the runs above.
_add(
    "mmvae-normal", "mmvae", JOY.format("Tables 3, 4 and 6, MMVAE, Gaussian as all models there"), OWN[1], steps=4_000,
    model_options={"objective": "elbo", **GAUSSIAN}, judges="processes", **SETTINGS,
)  # fmt: skip
for _name in ("mvae", "mmvae-elbo"):
    _same = next(recipe for recipe in RECIPES if recipe.name == f"hand-street-{_name}")
    _text = JOY.format(f"Table 6 and Figure 8, {_name}, the same training")
    _name = f"{_same.name}-judged"
    RECIPES.append(dataclasses.replace(_same, name=_name, source=_text, judges="processes"))

# MMALI: colour images as vectors and a smaller singular value: convolutions learn more slowly here at twice the cost,
# and with 2 the model forgets a class. Without styles the content has all 20 numbers.
FLAT = {"layers": "flat", "width": 0.5, "multiplier": 1.5, **BINARY}
SOURCE = "Chen and Zhu 2022, Tables 2 and 3{}, on the book's own, embedded data"
for _name, _style, _text in (("", {}, ""), ("-shared", {"style_dim": 0}, ", one shared code and no styles")):
    _prose = (SOURCE.format(_text), SHORT.format(16, 16, "5,000"))
    _add(f"mmali{_name}", "mmali", *_prose, steps=5_000, model_options=FLAT | _style, **QUICK)

# Joy et al. 2022: a share of the rows shows both modalities, each of the others only one; in "split" as many show hand
# as show street. "paired" are the same pairs and nothing else. All else is as in the run of all pairs, steps included;
# "brief" takes so much fewer of them that a pair is seen as often as where there are other rows, too: equal epochs.
PARTIAL = {
    "mvae": "mvae",
    "mmvae": "mmvae-elbo",
    "mopoe": "mopoe",
    "mmjsd": "mmjsd",
    "mmali": "mmali",
    "meme": "meme",
}
KINDS = {
    "hand": ("hand always present", {"always": "hand"}),
    "street": ("street always present", {"always": "street"}),
    "split": ("one or the other present", {}),
    "paired": ("pairs alone", {"unpaired": "dropped"}),
}


def _joy(model: str, full: str, kind: str, share: float, ending: str = "", text: str = "", **changes) -> None:
    base = next(recipe for recipe in RECIPES if recipe.name == f"hand-street-{full}")
    shows = "Joy et al. 2022, Figure 22" if kind == "paired" else "Joy et al. 2022, Tables 3 and 4"
    there = model in ("mvae", "meme")  # in their tables
    shows = shows if there else f"beside {shows}"
    changes |= {
        "name": f"hand-street-{model}-{kind}-{share:g}{ending}",
        "source": f"{shows}: {model}, {KINDS[kind][0]}, f = {share:g}{text}; on the book's own, embedded data",
        "data_options": {"paired": share, **KINDS[kind][1]},
        "judges": "processes" if there and kind != "paired" else "classifiers",
    }
    RECIPES.append(dataclasses.replace(base, **changes))


for _model, _full in PARTIAL.items():
    _steps = 5_000 if _model == "mmali" else 4_000
    for _share in (0.5, 0.25, 0.125, 0.0625):
        for _kind in KINDS:
            _joy(_model, _full, _kind, _share)
        _brief = {"steps": round(_share * _steps)}
        _joy(_model, _full, "paired", _share, "-brief", ", a pair as often as beside other rows", **_brief)
    if _model != "mmali":  # both sides of its game need rows of all kinds at once
        _joy(_model, _full, "split", 0.25, "-alternating", ", pairs every few steps", schedule="alternating")

# The whole picture: the first recipe of every model on all the data at other learning rates, and at other values of the
# option that its method is known to need, one at a time; which is best, validation is to say.
_first: dict[str, Recipe] = {}
for _recipe in RECIPES:
    if not _recipe.data_options:
        _first.setdefault(_recipe.model, _recipe)
for _recipe in _first.values():
    for _factor in RATES:
        _rate = _recipe.learning_rate * _factor
        _text = f"{_recipe.source}, at {_factor:g} times the learning rate"
        _name = f"{_recipe.name}-lr-{_rate:g}"
        RECIPES.append(dataclasses.replace(_recipe, name=_name, source=_text, learning_rate=_rate))
for _ending, (_option, _values) in KNOBS.items():
    _recipe = next(recipe for recipe in RECIPES if recipe.name == f"hand-street-{_ending}")
    for _value in _values:
        _name, _text = (
            f"{_recipe.name}-{_option}-{_value:g}",
            f"{_recipe.source}, with {_option} = {_value:g}",
        )
        _changed = _recipe.model_options | {_option: _value}
        if not any(recipe.name == _name for recipe in RECIPES):  # some are in a paper's figure
            RECIPES.append(dataclasses.replace(_recipe, name=_name, source=_text, model_options=_changed))

# Recorded before every run told the quality of draws and how near related codes are: the same training, told of that.
for _name in ("jmvae", "telbo", "mopoe", "mmjsd"):
    _recipe = next(recipe for recipe in RECIPES if recipe.name == f"hand-street-{_name}")
    _text = f"{_recipe.source}, with all judges"
    _name = f"{_recipe.name}-judged"
    RECIPES.append(dataclasses.replace(_recipe, name=_name, source=_text, judges="processes"))
