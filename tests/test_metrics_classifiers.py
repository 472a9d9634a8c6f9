"""The judges: trained on plain items, the same every time, kept on disk, honest about themselves."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mmlib.data import load
from mmlib.data.core import DataSet, Items, PairedSplit
from mmlib.metrics import Classifiers, classifiers, train_classifiers
from mmlib.metrics.classifiers import as_classifiers, judged, shifted
from mmlib.nets import DigitClassifier

QUICK = {"steps": 50, "batch_size": 32, "width": 0.15}


def columns(seed, n=120, classes=3):
    """8x8 images whose brightest column says the class."""
    source = torch.Generator().manual_seed(seed)

    def items(channels):
        labels = torch.arange(n) % classes
        images = torch.randint(100, (n, channels, 8, 8), generator=source)
        images[torch.arange(n), :, :, 2 * labels + 1] += 150
        return Items(images.to(torch.uint8), labels, torch.arange(n))

    both = {"a": items(1), "b": items(3)}
    return PairedSplit(both, {name: torch.arange(n) for name in both}, both["a"].labels)


def data():
    return DataSet("columns", columns(0), columns(1), columns(2), {"made": "in a test"})


def weights(classifiers):
    return {
        f"{name}.{key}": value
        for name, net in classifiers.networks.items()
        for key, value in net.state_dict().items()
    }


def same(first, second):
    return all(torch.equal(value, weights(second)[key]) for key, value in weights(first).items())


def test_same_seed_same_weights_and_the_callers_randomness_is_left_alone():
    state = torch.get_rng_state()
    first = train_classifiers(data(), cache=False, **QUICK)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(3)  # whatever happens outside does not matter
    assert same(first, train_classifiers(data(), cache=False, **QUICK))
    assert not same(first, train_classifiers(data(), cache=False, seed=1, **QUICK))


def test_training_sees_neither_the_pairing_nor_the_other_splits():
    plain = data()
    order = plain.train.labels.argsort(stable=True)
    paired = replace(
        plain.train, index=dict.fromkeys(plain.train.items, order), labels=plain.train.labels[order]
    )
    other = replace(plain, train=paired, validation=columns(8), test=columns(9))
    assert same(
        train_classifiers(plain, cache=False, **QUICK), train_classifiers(other, cache=False, **QUICK)
    )


def test_accuracy_is_that_of_the_networks_on_each_split():
    set_ = data()
    classifiers = train_classifiers(set_, cache=False, **QUICK)
    for name, net in classifiers.networks.items():
        assert not net.training
        for split in ("validation", "test"):
            items = set_.splits[split].items[name]
            right = net(items.batch()).argmax(-1) == items.labels
            assert classifiers.accuracy[name][split]["value"] == pytest.approx(float(right.float().mean()))
            assert classifiers.accuracy[name][split]["n"] == 120
        predicted = classifiers.predict(name, set_.test.items[name].batch())
        assert (predicted == set_.test.items[name].labels).float().mean() > 0.9  # the toy is easy


def test_the_cache_gives_back_what_was_trained(tmp_path):
    first = train_classifiers(data(), cache=tmp_path, **QUICK)
    again = train_classifiers(data(), cache=tmp_path, **QUICK)
    assert same(first, again) and again.seconds == pytest.approx(first.seconds)
    assert again.accuracy == first.accuracy and not again.networks["a"].training
    assert len(list(tmp_path.glob("classifiers-*"))) == 1
    train_classifiers(data(), cache=tmp_path, **QUICK | {"steps": 51})  # other options, another entry
    train_classifiers(replace(data(), provenance={"made": "elsewhere"}), cache=tmp_path, **QUICK)
    assert len(list(tmp_path.glob("classifiers-*"))) == 3


def test_a_damaged_cache_is_noticed_and_replaced(tmp_path):
    first = train_classifiers(data(), cache=tmp_path, **QUICK)
    file = next(tmp_path.glob("*/data.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.warns(UserWarning, match="damaged"):
        assert same(first, train_classifiers(data(), cache=tmp_path, **QUICK))


def test_shifting_moves_every_image_by_at_most_so_many_pixels():
    images = torch.arange(2 * 3 * 5 * 5).view(2, 3, 5, 5).float()
    moved = shifted(images, 1, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    for i in range(2):
        windows = [padded[i, :, r : r + 5, c : c + 5] for r in range(3) for c in range(3)]
        assert sum(torch.equal(moved[i], window) for window in windows) == 1
    assert shifted(images, 0) is images


def test_hand_street_is_judged_well_within_seconds():
    set_ = load("hand-street")
    classifiers = train_classifiers(set_)
    for name, least in (("hand", 0.93), ("street", 0.97)):
        assert classifiers.accuracy[name]["validation"]["value"] >= least
        assert classifiers.accuracy[name]["test"]["value"] >= least
        items = set_.test.items[name].select(torch.arange(200))
        right = classifiers.predict(name, items.batch()) == items.labels
        assert right.float().mean() >= least - 0.06  # 200 items: three standard errors


def test_names_of_digits_are_judged_without_a_mistake():
    text = train_classifiers(load("hand-street-text")).accuracy["text"]
    assert text["validation"]["value"] == text["test"]["value"] == 1


def test_judges_of_one_data_set_do_not_wait_for_those_of_another(tmp_path):
    def make():  # while these are made, others are wanted
        other = classifiers.stored(tmp_path, "other", facts, lambda: {"weight": torch.zeros(1)})
        return {"weight": other["weight"] + 1}

    facts = {"data": {}}
    assert classifiers.stored(tmp_path, "one", facts, make)["weight"] == 1


# --- judges of one's own --------------------------------------------------------------------------------------------


def test_any_function_to_logits_can_judge_and_need_not_know_its_accuracy():
    judges = Classifiers({"a": lambda x: x.flatten(1)[:, :3]})
    assert judges.predict("a", torch.eye(3)[[2, 0, 1]]).tolist() == [2, 0, 1]
    assert judges.accuracy == {} and judges.to("cpu").networks == judges.networks
    with pytest.raises(ValueError, match="gives shape \\(2,\\) for 2 items; expected class logits"):
        Classifiers({"a": lambda x: x.flatten(1).sum(1)}).predict("a", torch.eye(3)[:2])


def test_judges_of_a_mapping_are_held_against_the_modalities():
    judge = nn.Linear(2, 3)
    assert as_classifiers({"b": judge}, ["a", "b"]).networks == {"b": judge}
    kept = Classifiers({"b": judge, "c": judge})
    assert as_classifiers(kept, ["a", "b"]) is kept and judged(kept, ["a", "b"]) == ["b"]
    for wrong, message in (
        ({"hnad": judge}, "a modality that classifiers judge is 'hnad'; expected one of a, b"),
        ({}, "classifiers judge nothing; expected one or more of a, b"),
        (Classifiers({"c": judge}), "classifiers judge c; expected one or more of a, b"),
        ([judge], "classifiers is of type list, without predict"),
    ):
        with pytest.raises(ValueError, match=message):
            as_classifiers(wrong, ["a", "b"])
    with pytest.raises(ValueError, match="classifiers judge b, c; expected one for 'a' too"):
        classifiers.check_judges(kept, ["a", "b"])


def test_the_last_layer_of_a_judge_maps_its_features_to_logits():
    network = DigitClassifier((1, 8, 8), 3, 0.2).eval()
    images = torch.rand(5, 1, 8, 8)
    judges = Classifiers({"a": network, "b": nn.Flatten()})
    features = judges.features("a", images.double())  # in any precision
    torch.testing.assert_close(network.head(features), network(images))
    with pytest.raises(ValueError, match="without features; expected a network with that method"):
        judges.features("b", images)


def test_a_judge_in_training_mode_judges_the_company_of_an_image_too():
    """What is refused: batch statistics make the answer depend on other images, and change the network."""
    torch.manual_seed(0)
    network = DigitClassifier((1, 8, 8), 3, 0.2)
    images = torch.rand(40, 1, 8, 8)
    together = network(images)
    assert not torch.allclose(together[:4], network(images[:4]), atol=0.01)  # rounding moves 1e-6
    before = network.body[1].running_mean.clone()
    network(images)
    assert not torch.equal(before, network.body[1].running_mean)
    network.eval()
    torch.testing.assert_close(network(images)[:4], network(images[:4]))
    with pytest.raises(ValueError, match="in training mode; call classifiers.networks\\['a'\\].eval"):
        Classifiers({"a": network.train()}).predict("a", images)
