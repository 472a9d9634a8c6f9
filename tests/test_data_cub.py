"""CUB from files: the official layout in small, made here; what is missing is said; real captions where they are."""

import gzip
import lzma
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmlib.data import DataFileError, load
from mmlib.data.cache import cache_root
from mmlib.data.cub import IMAGENET, resnet_features, split_pictures
from mmlib.data.cub_files import cub_vocabulary, read_cub
from mmlib.data.vocabulary import UNKNOWN

CLASSES = [f"{n:03d}.Bird_{n}" for n in range(1, 24)]  # 20 for training, 3 for test
PICTURES = [(name, f"{name}/{name[4:]}_{i}.jpg") for name in CLASSES for i in range(2)]


def caption(number, i):
    return f"This bird is bird-number{number}, and the {['red', 'blue'][i % 2]} one."


@pytest.fixture
def root(tmp_path):
    """The official layout: two tiny photographs of each class, ten captions each."""
    folder, noise = tmp_path / "CUB", np.random.default_rng(0)
    (folder / "CUB_200_2011").mkdir(parents=True)
    images, labels = [], []
    for number, (name, file) in enumerate(PICTURES, start=1):
        images.append(f"{number} {file}")
        labels.append(f"{number} {int(name[:3])}")
        photograph = folder / "CUB_200_2011" / "images" / file
        photograph.parent.mkdir(parents=True, exist_ok=True)
        mode = "L" if number == 3 else "RGB"  # a few of the real ones are grey
        pixels = noise.integers(0, 256, (8, 6) if mode == "L" else (8, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels, mode).save(photograph)
        text = folder / "text_c10" / file.replace(".jpg", ".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("\n".join(caption(number, i) for i in range(10)) + "\n")
    (folder / "CUB_200_2011" / "images.txt").write_text("\n".join(images) + "\n")
    (folder / "CUB_200_2011" / "image_class_labels.txt").write_text("\n".join(labels) + "\n")
    (folder / "trainvalclasses.txt").write_text("\n".join(CLASSES[:20]) + "\n")
    (folder / "testclasses.txt").write_text("\n".join(CLASSES[20:]) + "\n")
    return tmp_path


class Small(nn.Module):
    """In place of a ResNet-101: mean colour of the picture through a ReLU, as 2,048 numbers."""

    def __init__(self):
        super().__init__()
        self.mix, self.fc = nn.Linear(3, 2048), nn.Linear(2048, 1000)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.fc(self.drop(torch.relu(self.mix(x.mean((2, 3))))))


@pytest.fixture
def weights(root, monkeypatch):
    from torchvision import models

    torch.manual_seed(0)
    torch.save(Small().state_dict(), root / "CUB" / "resnet101.pth")
    monkeypatch.setattr(models, "resnet101", Small)
    return root


def test_the_official_layout_end_to_end(weights):
    data = load("cub", cache=weights)
    assert data.shapes == {"image": (2048,), "caption": (32,)}
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 360,
        "validation": 40,
        "test": 60,
    }
    kinds = {name: set(split.labels.tolist()) for name, split in data.splits.items()}
    assert kinds["test"] == {21, 22, 23} and kinds["validation"] == {10, 20}
    assert kinds["train"] == set(range(1, 20)) - {10}
    rows = torch.arange(len(data.train))
    said, batch = data.vocabulary.decode(data.train.batch()["caption"]), data.train.batch()
    assert "this bird is bird -" in said[0] and said[0].endswith("one .")
    number = data.train.original("image", rows)
    assert torch.equal(number, data.train.original("caption", rows))
    for p in number.unique()[:5]:  # ten captions beside the same features
        same = batch["image"][number == p]
        assert len(same) == 10 and (same == same[0]).all()
    assert data.provenance["vocabulary"]["printed"] == 1590
    assert data.provenance["captions"] == "text_c10"


def test_features_are_computed_once_and_differ_by_normalisation(weights):
    plain = load("cub", cache=weights)
    for photograph in (weights / "CUB" / "CUB_200_2011" / "images").rglob("*.jpg"):
        photograph.unlink()
    again = load("cub", cache=weights, fraction=0.5)
    values = plain.train.items["image"].values
    assert torch.equal(again.train.items["image"].values, values[: len(values) // 2])
    with pytest.raises(DataFileError, match="as are 46 of 46 photographs"):
        load("cub", cache=weights, normalise=True)


def test_features_are_those_of_the_network_without_its_last_layer(root):
    torch.manual_seed(0)
    path, network = root / "CUB" / "CUB_200_2011" / "images" / PICTURES[0][1], Small()
    with Image.open(path) as photograph:
        pixels = (
            torch.from_numpy(np.array(photograph.resize((224, 224), Image.Resampling.BILINEAR))).float() / 255
        )
    mean = pixels.mean((0, 1))
    found = resnet_features([path] * 3, network, batch_size=2)
    torch.testing.assert_close(
        found, torch.relu(network.mix(mean)).detach().expand(3, -1), rtol=1e-4, atol=1e-5
    )
    normal = (mean - torch.tensor(IMAGENET[0])) / torch.tensor(IMAGENET[1])
    found = resnet_features([path], network, normalise=True)
    torch.testing.assert_close(found[0], torch.relu(network.mix(normal)).detach(), rtol=1e-3, atol=1e-4)


def test_a_resnet_101_gives_2048_numbers_none_negative(root):
    from torchvision import models

    torch.manual_seed(0)
    path = root / "CUB" / "CUB_200_2011" / "images" / PICTURES[0][1]
    found = resnet_features([path], models.resnet101())
    assert found.shape == (1, 2048) and found.min() >= 0 and found.isfinite().all() and found.max() > 0


def test_the_papers_text_files_say_the_same(root):
    folders = read_cub(root)[0]
    for part, classes in (("trainval", CLASSES[:20]), ("test", CLASSES[20:])):
        files = sorted(file.replace(".jpg", ".txt") for name, file in PICTURES if name in classes)
        texts = [(root / "CUB" / "text_c10" / file).read_text() for file in files]
        with lzma.open(root / "CUB" / f"text_{part}classes.txt.xz", "wt") as file:
            file.write("".join(texts))
    (root / "CUB" / "text_c10").rename(root / "CUB" / "elsewhere")
    found, source = read_cub(root)
    assert found == folders and source == "text_trainvalclasses.txt, text_testclasses.txt"
    with lzma.open(root / "CUB" / "text_testclasses.txt.xz", "wt") as file:
        file.write("one line\n")
    with pytest.raises(
        DataFileError, match="text_testclasses.txt has 1 lines; expected 10 for each of 6 pictures"
    ):
        read_cub(root)


def test_two_tables_do_in_place_of_folders(tmp_path):
    folder = tmp_path / "CUB"
    folder.mkdir()
    with gzip.open(folder / "cub_images.tsv.gz", "wt") as file:
        file.write(
            "image_id\timage\tclass_id\tzero_shot_split\n1\ta/b.jpg\t1\ttrainval\n2\tc/d.jpg\t2\ttest\n"
        )
    with lzma.open(folder / "cub_captions_tokenized.tsv.xz", "wt") as file:
        file.write("".join(f"{n}\ta red bird\n" for n in (1, 2) for _ in range(10)))
    found, source = read_cub(tmp_path)
    assert [(p.number, p.file, p.label, p.part) for p in found] == [
        (1, "a/b.jpg", 1, "trainval"),
        (2, "c/d.jpg", 2, "test"),
    ]
    assert found[0].captions == (("a", "red", "bird"),) * 10 and source == "cub_captions_tokenized.tsv.xz"
    assert cub_vocabulary(found).words == ("a", "red", "bird")


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("CUB_200_2011/images.txt", "CUB/images.txt is missing"),
        ("CUB_200_2011/image_class_labels.txt", "CUB/image_class_labels.txt is missing"),
        ("trainvalclasses.txt", "CUB/trainvalclasses.txt is missing"),
        ("testclasses.txt", "CUB/testclasses.txt is missing"),
        ("text_c10/001.Bird_1/Bird_1_0.txt", "CUB/Bird_1_0.txt is missing"),
        ("resnet101.pth", "CUB/resnet101.pth is missing"),
        (
            "CUB_200_2011/images/001.Bird_1/Bird_1_0.jpg",
            "Bird_1_0.jpg is missing, as are 1 of 46 photographs",
        ),
    ],
)
def test_one_error_says_what_is_missing_and_what_to_put_where(weights, lost, message):
    (weights / "CUB" / lost).unlink()
    with pytest.raises(DataFileError, match=message) as error:
        load("cub", cache=weights)
    assert (
        "cub reads these files below" in str(error.value) and str(error.value).count("text_c10/<class>") == 1
    )


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("CUB_200_2011/images.txt", "one two\n", "images.txt has the line 'one two'"),
        ("testclasses.txt", "Another\n", "'021.Bird_21' is missing"),
        (
            "text_c10/001.Bird_1/Bird_1_0.txt",
            "only one\n",
            "has 1 captions; expected 10 captions of each picture",
        ),
        ("resnet101.pth", "no weights", "resnet101.pth holds no weights of ResNet-101"),
        ("CUB_200_2011/images/001.Bird_1/Bird_1_0.jpg", "no picture", "Bird_1_0.jpg cannot be read"),
    ],
)
def test_damaged_files_are_named(weights, file, text, message):
    (weights / "CUB" / file).write_text(text)
    with pytest.raises(DataFileError, match=message):
        load("cub", cache=weights)


def test_impossible_options_are_refused(root):
    for options, message in (({"size": 64}, "size is 64; expected None"), ({"normalise": 1.5}, "normalise is 1.5"),
                             ({"dm": 3}, "cub has no option 'dm'")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            load("cub", cache=root, **options)


# --- the real captions, where they have been put ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    try:
        return read_cub(cache_root())
    except DataFileError:
        pytest.skip("no captions of CUB here")


def test_real_captions_are_complete(real):
    pictures, _ = real
    assert len(pictures) == 11_788 and sum(len(p.captions) for p in pictures) == 117_880
    assert len({p.label for p in pictures if p.part == "trainval"}) == 150
    assert sum(p.part == "trainval" for p in pictures) == 8_855
    parts = split_pictures(pictures, seed=0)
    assert [len({p.label for p in part}) for part in parts.values()] == [135, 15, 50]


def test_the_real_vocabulary_stands_beside_the_papers_1590(real):
    """Words of all 150 classes that occur more than three times; the papers' count has another tokeniser."""
    pictures, source = real
    words = cub_vocabulary(pictures)
    assert source != "cub_captions_tokenized.tsv.xz" or len(words) == 1_702
    symbols = words.encode([c for p in pictures if p.part == "test" for c in p.captions])
    assert (symbols == UNKNOWN).double().mean() < 0.01
    assert re.fullmatch(r"[\w ]+", words.decode(symbols[:1])[0])
