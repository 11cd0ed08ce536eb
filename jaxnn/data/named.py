"""The sets that have a name: where each is downloaded, by what it is verified, its classes' names.

Sizes and SHA-256 are those of the published files: of MNIST, Fashion-MNIST (Xiao, Rasul and
Vollgraf, 2017), Kuzushiji-MNIST (Clanuwat et al., 2018) and EMNIST (Cohen et al., 2017).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from jaxnn.data.roles import Parts

SPLITS = ("letters", "balanced", "byclass", "bymerge", "digits", "mnist")


@dataclass(frozen=True)
class File:
    """A file as it is published, and its parts that are kept: itself, or members of an archive."""

    name: str
    size: int
    sha256: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Named:
    """A set's mirrors, the first of which is tried first, and its files."""

    mirrors: tuple[str, ...]
    files: tuple[File, ...]


def _four(*published: tuple[int, str]) -> tuple[File, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        File(f"{name}-ubyte.gz", size, sha256)
        for name, (size, sha256) in zip(names, published, strict=True)
    )


def _emnist(split: str) -> Named:
    members = tuple(
        f"gzip/emnist-{split}-{part}-{kind}-ubyte.gz"
        for part in ("train", "test")
        for kind in ("images-idx3", "labels-idx1")
    )
    sha256 = "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"
    archive = File("gzip.zip", 561_753_746, sha256, members)
    mirrors = (
        "https://biometrics.nist.gov/cs_links/EMNIST/",
        "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
    )
    return Named(mirrors, (archive,))


NAMED: Mapping[str, Named] = {
    "mnist": Named(
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        _four(
            (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    "fashion": Named(
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
        _four(
            (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
    "kmnist": Named(
        ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        _four(
            (18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
            (29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
            (3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            (5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        ),
    ),
    **{f"emnist-{split}": _emnist(split) for split in SPLITS},
}

#: What sets whose files number their classes have, by a word in the name of the file or folder.
CLASSES: Mapping[str, tuple[str, ...]] = {
    "fashion": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip


def with_classes(path: Path, parts: Parts) -> Parts:
    """The labels of a set that is known by its path, with the names of their classes."""
    parents = [part.lower() for part in reversed(path.resolve().parts[-3:])]
    found = (names for part in parents for word, names in CLASSES.items() if word in part)
    names = next(found, None)
    is_such = parts.x_train.shape[1:] in ((28, 28), (784,)) and parts.y_train.dtype.kind in "iu"
    if names is None or not is_such:
        return parts
    y_train = replace(parts.y_train, classes=dict(enumerate(names)))
    return parts._replace(y_train=y_train)
