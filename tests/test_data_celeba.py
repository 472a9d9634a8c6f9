"""CelebA from files: the official layout in small, of noise in place of faces; all that is missing is said at once."""

import io
import lzma
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from mmlib.data import DataFileError, load
from mmlib.data.attributes import CELEBA, read_strings, spoken
from mmlib.data.cache import cache_root
from mmlib.data.celeba import ATTRIBUTES, FOLDER, PARTITION, SUBSET, read_attributes, reduced_pictures

N = 12
NUMBERS = [f"{n:06d}.jpg" for n in range(1, N + 1)]


def noise(name, width=178, height=218):
    """A picture of noise, the same for one name, as the bytes of a JPEG."""
    pixels = np.random.default_rng(int(name[:6])).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8
    )
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    picture.save(data := io.BytesIO(), "jpeg", quality=95)
    return data.getvalue()


def has(name):
    return np.random.default_rng(1000 + int(name[:6])).random(40) < 0.25


def write_lists(folder, names=NUMBERS, parts="000000001122"):
    rows = [f"{name} {' '.join(' 1' if yes else '-1' for yes in has(name))}" for name in names]
    text = "\r\n".join([str(len(names)), " ".join(CELEBA), *rows, ""])
    (folder / ATTRIBUTES).write_bytes(text.encode())
    lines = (f"{name} {part}\n" for name, part in zip(names, parts, strict=False))
    (folder / PARTITION).write_text("".join(lines))


@pytest.fixture
def root(tmp_path):
    """The official layout, twelve pictures of noise."""
    folder = tmp_path / "CelebA"
    (folder / FOLDER).mkdir(parents=True)
    for name in NUMBERS:
        (folder / FOLDER / name).write_bytes(noise(name))
    write_lists(folder)
    return tmp_path


def numbers(split):
    return split.original("image").tolist()


def test_the_official_layout_end_to_end(root):
    data = load("celeba", cache=root)
    assert data.shapes == {"image": (3, 64, 64), "text": (256,)} and not data.showable
    assert [numbers(split) for split in data.splits.values()] == [list(range(1, 9)), [9, 10], [11, 12]]
    for name, split in data.splits.items():
        truth = torch.from_numpy(np.stack([has(NUMBERS[n - 1]) for n in numbers(split)]))
        stated, formed = read_strings(split.batch()["text"], CELEBA)
        assert torch.equal(data.attributes[name], truth)
        assert torch.equal(stated[formed], truth[formed])
        assert torch.equal(split.labels, truth[:, CELEBA.index("Smiling")].long())
    facts = data.provenance
    assert (facts["pictures"], facts["count"], facts["partition"]) == ("celeba", N, "official")
    assert len(facts["sha256"][f"CelebA/{ATTRIBUTES}"]) == 64


def test_pictures_are_cut_to_their_middle_and_reduced(root):
    """The central 148 x 148 pixels by PIL's own crop and bicubic: the released code's numbers."""
    read = lambda name: (root / "CelebA" / FOLDER / name).read_bytes()  # noqa: E731
    found = reduced_pictures(NUMBERS[:3], read, 64)
    for row, name in zip(found, NUMBERS, strict=False):
        with Image.open(io.BytesIO(read(name))) as picture:
            middle = picture.crop((15, 35, 163, 183)).resize((64, 64), Image.Resampling.BICUBIC)
        assert np.abs(row.permute(1, 2, 0).numpy().astype(int) - np.asarray(middle).astype(int)).max() <= 1
    data = load("celeba", cache=root)
    assert torch.equal(data.train.items["image"].values[:3], found)
    assert load("celeba", 32, cache=root).shapes["image"] == (3, 32, 32)


def test_half_size_pictures_show_the_same_part(root):
    """Of a smooth picture and of its half the same square is left, up to what halving and JPEG lose."""
    big = Image.open(io.BytesIO(noise(NUMBERS[0])))
    big.resize((89, 109), Image.Resampling.BOX).save(half := io.BytesIO(), "jpeg", quality=98)
    one, other = (
        reduced_pictures(["x"], lambda _, b=b: b, 32).float() for b in (noise(NUMBERS[0]), half.getvalue())
    )
    shifted = (one[..., 1:] - other[..., :-1]).abs().mean()
    assert 2 * (one - other).abs().mean() < shifted


def test_some_pictures_are_enough_and_are_split_by_position_without_official_parts(root):
    for name in NUMBERS[8:]:
        (root / "CelebA" / FOLDER / name).unlink()
    (root / "CelebA" / FOLDER / NUMBERS[2]).unlink()
    write_lists(root / "CelebA")
    with pytest.raises(
        DataFileError, match="there are 7 pictures; expected 10 or more, or some of each official part"
    ):
        load("celeba", cache=root)
    for name in NUMBERS[8:11]:
        (root / "CelebA" / FOLDER / name).write_bytes(noise(name))
    write_lists(root / "CelebA", parts="0" * N)
    data = load("celeba", cache=root)
    assert data.provenance["partition"] == "by position" and data.provenance["count"] == 10
    assert [numbers(split) for split in data.splits.values()] == [[1, 2, 4, 5, 6, 7, 8, 9], [10], [11]]
    with pytest.raises(DataFileError, match="2 of 12 pictures are missing, the first is 000003.jpg"):
        load("celeba", cache=root, complete=True)


def test_the_partition_is_needed_only_where_it_is_followed(root):
    (root / "CelebA" / PARTITION).unlink()
    assert load("celeba", cache=root).provenance["partition"] == "by position"


def test_the_half_size_archive_is_read_as_it_is(root):
    folder = root / "CelebA"
    with zipfile.ZipFile(folder / SUBSET, "w") as archive:
        for name in NUMBERS:
            archive.writestr(name, noise(name, 89, 109))
    for name in (ATTRIBUTES, PARTITION):
        packed = lzma.compress((folder / name).read_bytes())
        (folder / f"{name}.xz").write_bytes(packed)
        (folder / name).unlink()
    data = load("celeba", cache=root, pictures="subset")
    assert data.provenance["pictures"] == "celeba-subset-12" and data.provenance["partition"] == "official"
    official = load("celeba", cache=root)
    assert torch.equal(data.attributes["train"], official.attributes["train"])
    assert not torch.equal(data.train.items["image"].values, official.train.items["image"].values)


def test_small_pictures_are_made_once(root):
    first = load("celeba", cache=root)
    for name in NUMBERS:
        (root / "CelebA" / FOLDER / name).write_bytes(b"")
    again = load("celeba", cache=root, fraction=0.5)
    assert torch.equal(again.train.items["image"].values, first.train.items["image"].values[:4])


def test_strings_may_begin_anywhere(root):
    texts = load("celeba", cache=root, place="random").train.batch()["text"]
    assert not torch.equal(texts, load("celeba", cache=root).train.batch()["text"])
    assert torch.equal(texts, load("celeba", cache=root, place="random").train.batch()["text"])


def missing_everything(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def damage(name, change):
    def apply(folder):
        path = folder / name
        path.write_text(change(path.read_text()))

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing_everything, f"CelebA/{FOLDER} and CelebA/{SUBSET} are missing; CelebA/{ATTRIBUTES} is missing"),
        (lambda f: (f / ATTRIBUTES).unlink(), f"CelebA/{ATTRIBUTES} is missing"),
        (lambda f: (f / FOLDER / NUMBERS[0]).write_bytes(b"no jpeg"), "the picture 000001.jpg cannot be read"),
        (lambda f: (f / FOLDER / NUMBERS[0]).write_bytes(noise("000001.jpg", 178, 178)),
         "000001.jpg has 178x178 pixels; expected 178x218"),
        (lambda f: (f / FOLDER / "000099.jpg").write_bytes(noise("000099.jpg")), "lacks 1 of the pictures"),
        (damage(ATTRIBUTES, lambda t: t.replace("Bald", "Bold")), "names '5_o.* in line 2; expected CelebA's 40"),
        (damage(ATTRIBUTES, lambda t: t.replace("000003.jpg  1", "000003.jpg  0")),
         "has '000003.jpg  0 .* in line 5; expected a name and 40"),
        (damage(ATTRIBUTES, lambda t: "\n".join(t.splitlines()[:-3])), "counts '12' pictures in line 1 and has 9"),
        (damage(PARTITION, lambda t: t.replace("000001.jpg 0", "000001.jpg 7")), "line 1; expected a name and 0, 1 or"),
        (damage(PARTITION, lambda t: t[t.index("\n") + 1 :]), "lacks 1 of the pictures, such as 000001.jpg"),
        (lambda f: (f / ATTRIBUTES).rename(f / f"{ATTRIBUTES}.xz"), "cannot be read .*damaged"),
    ],
)  # fmt: skip
def test_what_is_missing_or_damaged_is_said_with_what_to_put_where(root, change, message):
    change(root / "CelebA")
    with pytest.raises(DataFileError, match=message) as error:
        load("celeba", cache=root)
    assert f"reads these files below {root}/CelebA" in str(error.value)
    assert "list_attr_celeba.txt" in str(error.value)


def test_a_damaged_archive_is_refused(root):
    (root / "CelebA" / SUBSET).write_bytes(b"PK")
    with pytest.raises(DataFileError, match=f"{SUBSET} cannot be read"):
        load("celeba", cache=root, pictures="subset")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 128}, "size is 128; expected one of 32, 64"),
        ({"pictures": "all"}, "pictures is 'all'; expected one of auto, official, subset"),
        ({"place": 3}, "place is 3"),
        ({"complete": "no"}, "complete is 'no'"),
        ({"always": "hand"}, "always is 'hand'; expected one of image, text"),
        ({"train": 3}, "celeba has no option 'train'"),
    ],
)
def test_impossible_options_are_refused(root, options, message):
    with pytest.raises(ValueError, match=message):
        load("celeba", cache=root, **options)


def test_lists_keep_their_order(root):
    assert list(read_attributes(root / "CelebA" / ATTRIBUTES)) == NUMBERS


def test_strings_of_the_official_list_that_are_too_long():
    """mmjsd-x21, where the list is at hand."""
    path = cache_root() / "CelebA" / ATTRIBUTES
    if not path.is_file() and not path.with_name(f"{ATTRIBUTES}.xz").is_file():
        pytest.skip("CelebA's list of attributes is not at hand")
    table = np.stack(list(read_attributes(path).values()))
    assert len(table) == 202_599
    for between, most, too_long in ((2, 277, 22), (1, 258, 2)):
        lengths = table @ np.array([len(spoken(name)) + between for name in CELEBA]) - between
        assert (lengths.max(), (lengths > 256).sum()) == (most, too_long)
