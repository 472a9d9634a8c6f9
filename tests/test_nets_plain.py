"""Modalities of data that no paper has a table for: what networks and likelihoods they get, and whose word counts."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from test_nets import dense, parameters
from torch import nn
from toy import ToySplit

from mmlib.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    LaplaceLikelihood,
    NormalLikelihood,
)
from mmlib.models import JMVAE, MMALI, MMVAE, MVAE
from mmlib.nets import (
    JointEncoder,
    MnistEncoder,
    PlainDecoder,
    PlainEncoder,
    SvhnDecoder,
    SvhnEncoder,
    SymbolEncoder,
    TextEncoder,
    modalities,
)
from mmlib.nets.discriminators import Layers
from mmlib.runs.build import build_model
from mmlib.runs.recipe import Recipe
from mmlib.seeding import generator
from mmlib.train import fit

SHAPES = {"scan": (1, 12, 9), "photo": (3, 20, 25), "table": (5,), "breed": (), "tags": (3,), "word": (8,)}
CLASSES = {"breed": 4, "tags": 6, "word": 5}
OWN = SimpleNamespace(shapes=SHAPES, symbols=CLASSES)


def rows(n=7, seed=0):
    source = generator(seed)
    batch = {name: torch.rand(n, *shape, generator=source) for name, shape in SHAPES.items()}
    for name, classes in CLASSES.items():
        batch[name] = torch.randint(classes, (n, *SHAPES[name]), generator=source)
    return batch


def parts_by_name(*args, **options):
    return {part.name: part for part in modalities(*args, **options)}


# --- the networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6), (9, 8, 7)])
def test_perceptrons_have_the_layers_asked_for(hidden):
    encoder, decoder = PlainEncoder((2, 3), 4, hidden=hidden), PlainDecoder((2, 3), 4, hidden=hidden)
    last = (6, *hidden)[-1]
    assert parameters(encoder) == dense(6, *hidden) + 2 * dense(last, 4)
    assert parameters(decoder) == dense(4, *hidden, 6)
    loc, raw = encoder(torch.randn(5, 2, 3))
    assert loc.shape == raw.shape == (5, 4) and decoder(loc).shape == (5, 2, 3)
    wide = PlainEncoder((2, 3), 4, 2.0, hidden)
    assert parameters(wide) == dense(6, *(2 * h for h in hidden)) + 2 * dense(
        (6, *(2 * h for h in hidden))[-1], 4
    )


def test_a_deep_perceptron_is_the_composition_of_its_layers():
    encoder, x = PlainEncoder((3,), 2, hidden=(8, 6)), torch.randn(4, 3)
    first, second = (layer for layer in encoder.hidden if isinstance(layer, nn.Linear))
    expected = torch.relu(second(torch.relu(first(x))))
    torch.testing.assert_close(encoder(x)[0], encoder.loc(expected), rtol=0, atol=0)
    assert not any(isinstance(layer, nn.Sigmoid) for layer in PlainDecoder((3,), 2).modules())
    assert (PlainDecoder((3,), 2)(1e4 * torch.randn(50, 2)).abs() > 1).any()  # no bounds


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_symbols_go_in_as_one_hot_vectors(shape):
    encoder = SymbolEncoder(shape, 4, 2, hidden=(8,))
    x = torch.randint(4, (6, *shape), generator=generator(0))
    vectors = PlainEncoder((*shape, 4), 2, hidden=(8,))
    vectors.load_state_dict(encoder.state_dict())
    for found, expected in zip(encoder(x), vectors(F.one_hot(x, 4).float()), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="x has shape"):
        encoder(torch.zeros(6, 2, dtype=torch.long))


@pytest.mark.parametrize("hidden", [400, "400", (0,), (-1,), (2.5,), None])
def test_what_are_no_layers_is_refused(hidden):
    for network in (PlainEncoder, PlainDecoder):
        with pytest.raises(ValueError, match="hidden is .*; expected"):
            network((3,), hidden=hidden)


# --- what each modality gets ----------------------------------------------------------------------------------------


def test_every_modality_gets_what_fits_its_items():
    parts = parts_by_name(OWN, 4, 0.05)
    kinds = {name: (type(part.encoder), type(part.likelihood)) for name, part in parts.items()}
    assert kinds == {
        "scan": (MnistEncoder, LaplaceLikelihood),
        "photo": (SvhnEncoder, LaplaceLikelihood),
        "table": (PlainEncoder, NormalLikelihood),
        "breed": (SymbolEncoder, CategoricalLikelihood),
        "tags": (SymbolEncoder, CategoricalLikelihood),
        "word": (TextEncoder, CategoricalLikelihood),
    }
    assert parts["table"].likelihood.log_scale.shape == (5,)
    assert {name: parts[name].likelihood.classes for name in CLASSES} == CLASSES
    z = 100 * torch.randn(50, 4, generator=generator(1))
    assert all(parts[name].decode(z).max() <= 1 for name in ("scan", "photo"))
    assert parts["table"].decode(z).abs().max() > 1


@pytest.mark.parametrize("cls", [MVAE, MMVAE, JMVAE])
def test_models_of_all_of_them_need_no_network_of_ones_own(cls):
    torch.manual_seed(0)
    options = {"joint_encoder": JointEncoder(OWN, 2, 0.05)} if cls is JMVAE else {}
    model = cls(modalities(OWN, 2, 0.05, weights=None), 2, **options)
    seen = torch.arange(24) % 3 > 0
    split = ToySplit()
    split.x = rows(24)
    if cls is not JMVAE:  # whose joint encoder sees complete rows
        split.mask = lambda chosen: {"table": seen[chosen], "tags": ~seen[chosen]}
    history = fit(model, split, 30, 12, 1e-2, progress=False, log_every=10)
    assert history[-1]["loss"] < history[0]["loss"]
    batch, mask = rows(24), split.mask(torch.arange(24))
    made = model.generate(batch, ["photo"], list(SHAPES), generator(0), mask=mask)
    assert {name: tuple(x.shape) for name, x in made.items()} == {
        name: (24, *shape, *([CLASSES[name]] if name in CLASSES else [])) for name, shape in SHAPES.items()
    }


def test_vectors_and_images_are_as_before_where_nothing_is_said_of_symbols():
    (table,) = modalities({"a": (5,)}, 2)
    assert isinstance(table.encoder, PlainEncoder)
    (small,) = modalities({"a": (3, 6, 9)}, 2)
    assert isinstance(small.encoder, MnistEncoder)  # too small for convolutions
    with pytest.raises(ValueError, match=r"shape of 'a' is \(\); expected sizes"):
        modalities({"a": ()}, 2)
    with pytest.raises(ValueError, match=r"shape of 'a' is of type Tensor of shape \(9, 3\); expected sizes"):
        modalities({"a": torch.zeros(9, 3)}, 2)


def test_adversarial_models_take_images_and_vectors_of_any_size():
    torch.manual_seed(0)
    shapes = {name: SHAPES[name] for name in ("scan", "photo", "table")}
    model = MMALI(modalities(shapes, 4, 0.05), 3, 1, width=0.05)
    batch = {name: rows()[name] for name in shapes}
    for loss in (model.discriminator_loss, model.generator_loss):
        value, _ = loss(batch)
        value.backward()
        assert torch.isfinite(value)
    seen = Layers(width=0.05).branch_of(SHAPES["photo"])(batch["photo"])
    assert seen.shape == (7, Layers(width=0.05).features)


# --- whose word counts ----------------------------------------------------------------------------------------------


def test_likelihoods_may_be_said_for_some():
    own = {
        "scan": BernoulliLikelihood(),
        "tags": CategoricalLikelihood(6, padding=0),
        "table": NormalLikelihood(0.3),
    }
    parts = parts_by_name(OWN, 4, 0.05, likelihood=own)
    assert isinstance(parts["scan"].likelihood, BernoulliLikelihood) and not parts["scan"].decoder.sigmoid
    assert isinstance(parts["photo"].likelihood, LaplaceLikelihood) and parts["photo"].decoder.sigmoid
    assert parts["tags"].likelihood.padding == 0 and parts["breed"].likelihood.padding is None
    assert parts["table"].likelihood.scale == 0.3


def test_one_likelihood_is_for_all_numbers_and_a_copy_for_each():
    one = NormalLikelihood(0.5, learn_scale=True)
    parts = parts_by_name(OWN, 4, 0.05, likelihood=one)
    scales = [parts[name].likelihood.log_scale for name in ("scan", "photo", "table")]
    assert len({id(scale) for scale in [*scales, one.log_scale]}) == 4
    assert all(isinstance(parts[name].likelihood, CategoricalLikelihood) for name in CLASSES)
    symbols = SimpleNamespace(shapes={"a": (2,), "b": (3,)}, symbols={"a": 5, "b": 5})
    padded = modalities(symbols, 2, likelihood=CategoricalLikelihood(5, padding=4))
    assert [part.likelihood.padding for part in padded] == [4, 4]


def test_a_categorical_likelihood_alone_makes_symbols_of_a_shape():
    (part,) = modalities({"word": (3,)}, 2, likelihood={"word": CategoricalLikelihood(5)})
    assert isinstance(part.encoder, SymbolEncoder) and part.decode(torch.zeros(4, 2)).shape == (4, 3, 5)


def test_pixels_lie_in_the_unit_interval_only_where_the_decoder_gives_them():
    class Logarithms(LaplaceLikelihood):
        def mean(self, params):
            return params.exp()

    for likelihood, bounded in (
        (LaplaceLikelihood(), True),
        (NormalLikelihood(), True),
        (Logarithms(), False),
    ):
        for part in modalities({"grey": (1, 8, 8), "colour": (3, 8, 8)}, 2, 0.1, likelihood):
            assert part.decoder.sigmoid == bounded
    (table,) = modalities({"a": (3,)}, 2, 0.1, LaplaceLikelihood())
    assert not table.decoder.sigmoid


def test_networks_may_be_said_for_some():
    pair = PlainEncoder((1, 12, 9), 4, hidden=(8, 8)), SvhnDecoder((1, 12, 9), 4, 0.1)
    parts = parts_by_name(OWN, 4, 0.05, networks={"scan": pair})
    assert (parts["scan"].encoder, parts["scan"].decoder) == pair
    assert isinstance(parts["photo"].encoder, SvhnEncoder)


PAIR = PlainEncoder((5,), 4), PlainDecoder((5,), 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"likelihood": {"sound": NormalLikelihood()}},
            r"likelihood names \['sound'\]; expected some of \['scan', ",
        ),
        (
            {"likelihood": {"table": "normal"}},
            "likelihood of modality 'table' is 'normal'; expected an instance",
        ),
        ({"likelihood": NormalLikelihood}, "likelihood of modality 'scan' is .*; expected an instance"),
        (
            {"likelihood": {"tags": NormalLikelihood}},
            "likelihood of modality 'tags' is .*; expected an instance",
        ),
        (
            {"likelihood": {"table": NormalLikelihood(learn_scale=(4,))}},
            r"learn_scale is \(4,\); expected .*\(5,\)",
        ),
        ({"networks": {"sound": PAIR}}, r"networks names \['sound'\]; expected some of \['scan', "),
        ({"networks": PAIR}, r"networks is of type tuple; expected a mapping from some of \['scan', "),
        (
            {"networks": {"table": PAIR[0]}},
            r"networks\['table'\] is of type PlainEncoder.*; expected an encoder and a",
        ),
        (
            {"networks": {"table": (PAIR[0], PlainDecoder)}},
            "decoder of modality 'table' is .*; expected a network",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        modalities(OWN, 4, 0.05, **options)


@pytest.mark.parametrize(
    ("symbols", "message"),
    [({"breed": 0}, "classes is 0; expected"), ({"breed": "many"}, "classes is 'many'; expected")],
)
def test_symbols_have_a_number_of_classes(symbols, message):
    with pytest.raises(ValueError, match=message):
        modalities(SimpleNamespace(shapes={"breed": ()}, symbols=symbols), 4)


def test_symbols_beyond_the_classes_are_named():
    model = MVAE(modalities(OWN, 2, 0.05), 2)
    batch = rows()
    batch["breed"][2] = 4
    with pytest.raises(ValueError, match=r"batch\['breed'\] holds symbols \d .. 4; expected 0 .. 3"):
        model.loss(batch)


# --- recipes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["mvae", "jmvae"])
def test_recipes_take_data_with_symbols(model):
    recipe = Recipe("own", model, "hand-street", "", 8, latent_dim=2, width=0.05, likelihood="normal")
    if model == "jmvae":
        recipe = Recipe(**{**vars(recipe), "model_options": {"joint_encoder": "features"}})
    built = build_model(recipe, OWN, seed=0)
    assert isinstance(built.modalities["tags"].likelihood, CategoricalLikelihood)
    assert built.modalities["table"].likelihood.scale == 0.75
    loss, _ = built.loss(rows())
    assert torch.isfinite(loss)
