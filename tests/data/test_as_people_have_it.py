"""Data in the forms in which people keep them: the labels and the pictures are looked at.

The pictures are of scikit-learn's digits, which are unlike themselves in a mirror or on their side.
"""

import gzip
import io
import json
import pickle
import string

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from jaxnn.data import DataError, load
from jaxnn.errors import SettingError

from .. import trained_run
from ..data_files import idx_bytes

N_TRAIN, N_TEST = 60, 20


def digits():
    """(n, 8, 8) bytes from 0 to 255 and labels 0 … 9 of both parts."""
    d = trained_run.digits()
    x = {p: getattr(d, f"x_{p}").reshape(-1, 8, 8)[:n] for p, n in PARTS.items()}
    return {
        **{f"x_{p}": np.rint(x[p] / 16 * 255).astype(np.uint8) for p in PARTS},
        **{f"y_{p}": getattr(d, f"y_{p}")[:n].astype(np.int64) for p, n in PARTS.items()},
    }


PARTS = {"train": N_TRAIN, "test": N_TEST}


def looked_at(dataset, names=tuple("0123456789"), a=None):
    """Every picture upright, bright on dark and in its order, and every label by its name."""
    a = a or digits()
    assert dataset.image_shape == (8, 8)
    for part, n in PARTS.items():
        images = getattr(dataset, f"x_{part}").reshape(n, 8, 8)
        np.testing.assert_allclose(
            images * dataset.scale, a[f"x_{part}"] / 255, rtol=1e-6, atol=0.5 / 255
        )
        found = [dataset.class_names[c] for c in getattr(dataset, f"y_{part}")]
        assert found == [names[label] for label in a[f"y_{part}"]]
    assert dataset.class_names == tuple(names)


def csv_text(x, y=None, header=True, separator=",", form="%d"):
    """As Kaggle has it: label,pixel0,…"""
    columns = ([] if y is None else ["label"]) + [f"pixel{i}" for i in range(64)]
    rows = x.reshape(len(x), 64)
    lines = [separator.join(columns)] if header else []
    for i, row in enumerate(rows):
        cells = ([] if y is None else [str(y[i])]) + [form % v for v in row]
        lines.append(separator.join(cells))
    return "\n".join(lines) + "\n"


def write_csv(folder, train="train.csv", test="test.csv", **how):
    folder.mkdir(exist_ok=True)
    a = digits()
    for part, name in (("train", train), ("test", test)):
        text = csv_text(a[f"x_{part}"], a[f"y_{part}"], **how).encode()
        (folder / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    return folder


class TestCsv:
    @pytest.mark.parametrize(
        ("train", "test", "how"),
        [
            ("train.csv", "test.csv", {}),
            ("train.csv", "test.csv", {"header": False}),
            ("train.csv.gz", "test.csv.gz", {}),
            ("mnist_train.csv", "mnist_test.csv", {"separator": ";"}),
            ("digits-training.tsv", "digits-testing.tsv", {"separator": "\t"}),
            ("train.txt", "test.txt", {"separator": " ", "header": False}),
            ("train.csv", "test.csv", {"form": "%.3f"}),
        ],
        ids=["kaggle", "no header", "gzipped", "semicolons", "tabs", "spaces", "floats"],
    )
    def test_two_files_in_a_folder(self, tmp_path, train, test, how):
        looked_at(load(str(write_csv(tmp_path / "set", train, test, **how))))

    @pytest.mark.parametrize("test", [None, 0.25, 30])
    def test_without_a_test_part_one_is_set_aside(self, tmp_path, test):
        """Stratified, by the seed, and said; a test.csv without labels is left alone."""
        d = trained_run.digits()
        x, y = np.rint(d.x_train / 16 * 255).astype(int), d.y_train
        (tmp_path / "train.csv").write_text(csv_text(x, y))
        (tmp_path / "test.csv").write_text(csv_text(x[:9]))
        (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")
        dataset = load(str(tmp_path), test=test, seed=3)
        size = {None: round(0.2 * len(x)), 0.25: round(0.25 * len(x)), 30: 30}[test]
        assert (dataset.n_test, dataset.n_train) == (size, len(x) - size)
        share = np.bincount(dataset.y_test) / np.bincount(y)
        assert np.abs(share - size / len(x)).max() < 0.01
        rows = {row.tobytes() for row in np.concatenate([dataset.x_train, dataset.x_test])}
        assert rows == {row.tobytes() for row in x.astype(np.uint8)}
        assert f"no test part: {size:,} examples set aside by seed 3" in dataset.remarks
        assert "test.csv has no labels: it can be predicted" in dataset.remarks
        again, other = (load(str(tmp_path), test=test, seed=s) for s in (3, 4))
        assert again.fingerprint() == dataset.fingerprint() != other.fingerprint()

    def test_a_test_part_that_there_is_is_not_set_aside_again(self, tmp_path):
        with pytest.raises(SettingError, match=r"`test` 0.2: expected data without a test part"):
            load(str(write_csv(tmp_path)), test=0.2)

    def test_labels_are_words_and_the_last_column(self, tmp_path):
        """As in the Iris table: features, which are standardised, and an identifier."""
        rng = np.random.default_rng(0)
        x = rng.normal(5, 2, (30, 4)).round(1)
        names = ["setosa", '"versi, color"', "virginica"]
        lines = ["Id,SepalLength,SepalWidth,PetalLength,PetalWidth,Species"]
        lines += [f"{i},{','.join(map(str, row))},{names[i % 3]}" for i, row in enumerate(x)]
        (tmp_path / "iris.csv").write_text("\n".join(lines))
        dataset = load(str(tmp_path / "iris.csv"))
        assert dataset.class_names == ("setosa", "versi, color", "virginica")
        assert (dataset.n_x, dataset.image_shape) == (4, None)
        np.testing.assert_allclose(dataset.x_train.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(dataset.x_train.std(axis=0), 1, rtol=1e-5)
        by = dataset.standardisation
        back = np.sort(np.concatenate([dataset.x_train, dataset.x_test]) * by.std + by.mean, axis=0)
        np.testing.assert_allclose(back, np.sort(x, axis=0), atol=1e-5)
        assert "4 features, standardised by the training part" in dataset.remarks

    def test_no_header_and_words(self, tmp_path):
        (tmp_path / "iris.data").write_text("5.1,3.5,a\n4.9,-3.0,b\n" * 6 + "\n")
        assert load(str(tmp_path / "iris.data")).class_names == ("a", "b")

    @pytest.mark.parametrize("key", ["y=3", "y=-1", "y=kind"])
    def test_a_column_is_named(self, tmp_path, key):
        text = "a,b,kind\n" + "1.5,2.5,7\n3.5,-1,8\n" * 6
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(DataError, match=r"label, class or target expected, found .*`keys` y="):
            load(str(tmp_path / "t.csv"))
        assert load(str(tmp_path / "t.csv"), keys=(key,)).class_names == ("7", "8")
        with pytest.raises(SettingError, match=r"expected a column of .*, found a, b, kind"):
            load(str(tmp_path / "t.csv"), keys=("y=nothing",))

    def test_rows_are_plain_features_if_that_is_said(self, tmp_path):
        dataset = load(str(write_csv(tmp_path / "set")), features=True)
        assert (dataset.image_shape, dataset.n_x) == (None, 64)
        assert dataset.x_train.min() < 0

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("label,a,b\n1,2,3\n0,4\n", "line 3: 3 cells expected as in the lines before, found 2"),
            ("label,a,b\n1,2,3\n0,,5\n", r"line 3, column 2 \(a\): a number expected, found an em"),
            ("label,a,b\n1,2,3\n0,x,5\n", "line 3, column 2 .*: a number expected, found 'x'"),
            ("label,a,b\n1,2,nan\n0,1,5\n", "found values from nan to nan"),
            ("label,a,b\n1,2,3\n,1,5\n", "a label for every example expected, found an empty"),
            ("label,a,b\n", "rows below the header expected"),
            ("name,town,label\nAnn,Bonn,1\nBob,Rome,0\n", "a number expected, found 'Ann'"),
            ("name,town,zip\nAnn,Bonn,1\nBob,Rome,0\n", "found 'Ann', 'Bonn': encode the others"),
        ],
    )
    def test_what_is_no_table_of_numbers_is_said_by_line(self, tmp_path, text, words):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(DataError, match=words):
            load(str(tmp_path / "t.csv"))

    def test_other_columns_in_the_test_part(self, tmp_path):
        (tmp_path / "train.csv").write_text("label,a,b\n" + "1,2.5,3\n0,-4,5\n" * 5)
        (tmp_path / "test.csv").write_text("a,c\n1,2\n")
        with pytest.raises(DataError, match=r"test.csv: the columns of train.csv .* called b"):
            load(str(tmp_path))


def write_idx(folder, names, a=None, gz=False):
    folder.mkdir(parents=True, exist_ok=True)
    for (kind, array), name in zip((a or digits()).items(), names, strict=True):
        content = idx_bytes(array)
        path = folder / (name + (".gz" if gz else ""))
        path.write_bytes(gzip.compress(content) if gz else content)
        assert kind
    return folder


def four(pattern, test="test"):
    """The names of x_train, x_test, y_train and y_test."""
    kinds = ("images-idx3", "labels-idx1")
    return [pattern.format(part=p, kind=k) for k in kinds for p in ("train", test)]


class TestIdx:
    @pytest.mark.parametrize("gz", [False, True])
    @pytest.mark.parametrize(
        "names",
        [
            four("{part}-{kind}-ubyte", "t10k"),
            [n.replace("-idx", ".idx") for n in four("{part}-{kind}-ubyte", "t10k")],
            four("digits-{part}-{kind}-ubyte"),
            ["x_train", "x_test", "y_train", "y_test"],
        ],
        ids=["mnist", "dots", "prefix", "short"],
    )
    def test_under_any_names(self, tmp_path, names, gz):
        looked_at(load(str(write_idx(tmp_path / "set", names, gz=gz))))

    def test_qmnist_has_labels_in_eight_columns(self, tmp_path):
        names = four("qmnist-{part}-{kind}-ubyte")
        write_idx(tmp_path, names)
        for part, n in PARTS.items():
            y = np.zeros((n, 8), ">i4")
            y[:, 0], y[:, 1] = digits()[f"y_{part}"], 77
            (tmp_path / f"qmnist-{part}-labels-idx1-ubyte").unlink()
            header = b"\0\0\x0c\x02" + n.to_bytes(4) + (8).to_bytes(4)
            (tmp_path / f"qmnist-{part}-labels-idx2-int").write_bytes(header + y.tobytes())
        looked_at(load(str(tmp_path)))

    @pytest.mark.parametrize("folder", ["EMNIST/raw", "."])
    def test_emnist_letters(self, tmp_path, folder):
        """26 letters, counted from 1 in the files, and every picture upright."""
        a = digits()
        published = {
            n: v.transpose(0, 2, 1) if n[0] == "x" else (v + 1).astype(np.uint8)
            for n, v in a.items()
        }
        for split in ("letters", "digits"):
            write_idx(tmp_path / folder, four(f"emnist-{split}-{{part}}-{{kind}}-ubyte"), published)
        looked_at(load(str(tmp_path), keys=("letters",)), string.ascii_uppercase[:10])
        with pytest.raises(DataError, match="several: emnist digits, emnist letters; `keys`"):
            load(str(tmp_path))

    def test_all_letters_are_there(self, tmp_path):
        x = np.zeros((52, 4, 4), np.uint8)
        x[:, 0, 1] = 255
        y = np.tile(np.arange(1, 27), 2).astype(np.uint8)
        a = {"x_train": x, "x_test": x, "y_train": y, "y_test": y}
        write_idx(tmp_path, four("emnist-letters-{part}-{kind}-ubyte"), a)
        dataset = load(str(tmp_path))
        assert dataset.class_names == tuple(string.ascii_uppercase)
        assert np.flatnonzero(dataset.x_train[0]).tolist() == [4]

    def test_emnist_as_a_table(self, tmp_path):
        a = digits()
        for part in PARTS:
            x, y = a[f"x_{part}"].transpose(0, 2, 1), a[f"y_{part}"] + 1
            path = tmp_path / f"emnist-letters-{part}.csv"
            path.write_text(csv_text(x, y, header=False))
        looked_at(load(str(tmp_path)), string.ascii_uppercase[:10])

    def test_torchvisions_root(self, tmp_path):
        write_idx(tmp_path / "MNIST" / "raw", four("{part}-{kind}-ubyte", "t10k"))
        write_idx(tmp_path / "MNIST" / "raw", four("{part}-{kind}-ubyte", "t10k"), gz=True)
        looked_at(load(str(tmp_path)))
        write_idx(tmp_path / "Other" / "raw", four("{part}-{kind}-ubyte", "t10k"))
        with pytest.raises(DataError, match=r"found several: give one of .*MNIST/raw, .*Other/raw"):
            load(str(tmp_path))

    @pytest.mark.parametrize(
        ("folder", "first"),
        [("fashion", "T-shirt/top"), ("FashionMNIST/raw", "T-shirt/top"), ("kmnist", "o")],
    )
    def test_fashion_and_kuzushiji_name_their_classes(self, tmp_path, folder, first):
        x = np.zeros((20, 28, 28), np.uint8)
        x[:, 3] = 255
        y = (np.arange(20) % 10).astype(np.uint8)
        a = {"x_train": x, "x_test": x, "y_train": y, "y_test": y}
        write_idx(tmp_path / folder, four("{part}-{kind}-ubyte", "t10k"), a)
        assert load(str(tmp_path / folder)).class_names[0] == first


#: The four arrays by other names, as one file of named arrays may have them.
NAMES = {
    "keras": ["x_train", "x_test", "y_train", "y_test"],
    "capitals": ["X_train", "X_test", "Y_train", "Y_test"],
    "together": ["trainX", "testX", "trainY", "testY"],
    "reversed": ["Xtrain", "Xtest", "ytrain", "ytest"],
    "medmnist": ["train_images", "test_images", "train_labels", "test_labels"],
    "course": ["train_set_x", "test_set_x", "train_set_y", "test_set_y"],
    "targets": ["train_data", "test_data", "train_targets", "test_targets"],
}


def named(names, a=None):
    return dict(zip(names, (a or digits()).values(), strict=True))


def as_npz(folder, arrays):
    np.savez(folder / "set.npz", **arrays)
    return folder / "set.npz"


def as_hdf5(folder, arrays):
    with h5py.File(folder / "set.h5", "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    return folder / "set.h5"


def as_npy(folder, arrays):
    for name, array in arrays.items():
        np.save(folder / f"{name.replace('/', '-')}.npy", array)
    return folder


def as_matlab(folder, arrays):
    savemat(folder / "set.mat", {name.replace("/", "_"): a for name, a in arrays.items()})
    return folder / "set.mat"


def as_several_hdf5(folder, arrays):
    """As a well-known course has it: the training part and the test part in a file each."""
    for part in PARTS:
        with h5py.File(folder / f"{part}_catvnoncat.h5", "w") as file:
            for name, array in arrays.items():
                if part in name.lower():
                    file[name] = array
            file["list_classes"] = np.array([b"a", b"b"])
    return folder


CONTAINERS = (as_npz, as_hdf5, as_npy, as_matlab, as_several_hdf5)


class TestNamedArrays:
    @pytest.mark.parametrize(
        ("names", "container"),
        [
            *((names, as_npz) for names in NAMES),
            *(("keras", container) for container in CONTAINERS[1:]),
            ("course", as_several_hdf5),
        ],
    )
    def test_are_found_by_their_names(self, tmp_path, names, container):
        looked_at(load(str(container(tmp_path, named(NAMES[names])))))

    def test_groups(self, tmp_path):
        """As USPS has them in HDF5."""
        names = ["train/data", "test/data", "train/target", "test/target"]
        looked_at(load(str(as_hdf5(tmp_path, named(names)))))

    def test_any_single_file_in_a_folder(self, tmp_path):
        as_npz(tmp_path, named(NAMES["keras"])).rename(tmp_path / "whatever.bin")
        (tmp_path / "README.md").write_text("# nothing\n")
        looked_at(load(str(tmp_path)))

    def test_one_array_in_each_archive(self, tmp_path):
        """As Kuzushiji-MNIST has them: arr_0 in kmnist-train-imgs.npz and three others."""
        a = digits()
        for part in PARTS:
            np.savez(tmp_path / f"k-{part}-imgs.npz", a[f"x_{part}"])
            np.savez(tmp_path / f"k-{part}-labels.npz", a[f"y_{part}"])
        looked_at(load(str(tmp_path)))

    def test_a_validation_part(self, tmp_path):
        a = digits()
        more = {"val_images": a["x_test"], "val_labels": a["y_test"]}
        whole = named(NAMES["medmnist"]) | more
        dataset = load(str(as_npz(tmp_path, whole)))
        looked_at(dataset)
        assert "the validation part is left out" in dataset.remarks
        part = {n: v for n, v in whole.items() if "test" not in n}
        dataset = load(str(as_npz(tmp_path, part)))
        looked_at(dataset)
        assert "the validation part is taken as the test part" in dataset.remarks

    def test_images_and_labels_alone(self, tmp_path):
        d = trained_run.digits()
        arrays = {"images": d.x_train.reshape(-1, 8, 8), "labels": d.y_train}
        dataset = load(str(as_npz(tmp_path, arrays)))
        assert (dataset.n_train, dataset.n_test) == (1150, 288)

    def test_names_that_tell_nothing(self, tmp_path):
        a = digits()
        arrays = {"faces": a["x_train"], "person": a["y_train"], "age": a["y_train"] * 2}
        path = as_npz(tmp_path, arrays)
        with pytest.raises(DataError, match=r"found: age, faces, person; .*`keys` x=NAME y=NAME"):
            load(str(path))
        dataset = load(str(path), keys=("x=faces", "y=person"))
        assert dataset.n_train + dataset.n_test == N_TRAIN
        with pytest.raises(SettingError, match="`keys` y=nobody: expected the name of an array"):
            load(str(path), keys=("x=faces", "y=nobody"))
        with pytest.raises(SettingError, match=r"`keys` z=faces: expected x=, y=, or one of"):
            load(str(path), keys=("z=faces",))

    @pytest.mark.parametrize("container", [as_npz, as_hdf5, as_npy], ids=lambda c: c.__name__)
    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            (lambda y: y[:, None], "0123456789"),
            (lambda y: y - 5, [str(k) for k in range(-5, 5)]),
            (lambda y: np.eye(10)[y], "0123456789"),
            (lambda y: np.eye(10, dtype=bool)[y], "0123456789"),
            (lambda y: np.array(list("abcdefghij"))[y].astype("S"), "abcdefghij"),
            (lambda y: (y + 96).astype("S"), [str(k + 96) for k in range(10)]),
        ],
        ids=["a column", "from any start", "one-hot", "one-hot truth", "text", "numbers as text"],
    )
    def test_labels(self, tmp_path, container, labels, names):
        a = {n: labels(v) if n[0] == "y" else v for n, v in digits().items()}
        looked_at(load(str(container(tmp_path, named(NAMES["keras"], a)))), tuple(names))

    @pytest.mark.parametrize("first", [False, True])
    def test_colours(self, tmp_path, first):
        """In all channels, or in grey by their brightness."""
        rng = np.random.default_rng(0)
        a = digits()
        a |= {n: rng.integers(0, 256, (*a[n].shape, 3), np.uint8) for n in ("x_train", "x_test")}
        given = {n: np.moveaxis(v, 3, 1) if first and n[0] == "x" else v for n, v in a.items()}
        path = as_npz(tmp_path, named(NAMES["keras"], given))
        dataset = load(str(path))
        assert dataset.image_shape == (8, 8, 3)
        np.testing.assert_array_equal(dataset.x_test.reshape(N_TEST, 8, 8, 3), a["x_test"])
        grey = load(str(path), grey=True)
        expected = [np.asarray(Image.fromarray(image).convert("L")) for image in a["x_test"]]
        assert grey.image_shape == (8, 8)
        np.testing.assert_allclose(grey.x_test.reshape(N_TEST, 8, 8), expected, atol=1)

    def test_plain_features(self, tmp_path):
        rng = np.random.default_rng(0)
        mean, std = np.array([0, -5, 1e6]), np.array([1, 0.01, 3e4])
        arrays = {
            n: mean + std * rng.normal(size=(k, 3)) for n, k in (("x_train", 50), ("x_test", 9))
        }
        arrays |= {"y_train": np.arange(50) % 2, "y_test": np.arange(9) % 2}
        dataset = load(str(as_npz(tmp_path, arrays)))
        expected = (arrays["x_test"] - arrays["x_train"].mean(0)) / arrays["x_train"].std(0)
        np.testing.assert_allclose(dataset.x_test, expected, rtol=1e-3, atol=1e-3)
        assert (dataset.image_shape, dataset.scale, dataset.x_train.dtype) == (None, 1, np.float32)

    def test_nothing_is_unpickled(self, tmp_path):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": [1]}))
        for path in (tmp_path / "data_batch_1", tmp_path):
            with pytest.raises(DataError, match=r"a pickle, .*never opened.*numpy\.savez"):
                load(str(path))
        np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object), y=np.arange(1))
        with pytest.raises(DataError, match="never unpickled"):
            load(str(tmp_path / "a.npz"))


class TestMatlab:
    def test_images_along_the_last_axis(self, tmp_path):
        """As SVHN has them: X (h, w, 3, N), y (N, 1), from 1, in a file for each part."""
        a = digits()
        for part in PARTS:
            x = np.stack([a[f"x_{part}"]] * 3, axis=3)
            path = tmp_path / f"{part}_8x8.mat"
            savemat(path, {"X": np.moveaxis(x, 0, 3), "y": a[f"y_{part}"][:, None] + 1})
        looked_at(load(str(tmp_path), grey=True), tuple(map(str, range(1, 11))))

    @pytest.mark.parametrize("keep", ["images", "rows"])
    def test_version_73(self, tmp_path, keep):
        """Which is HDF5, each array with its axes in reverse, behind 512 bytes of MATLAB's own."""
        path = tmp_path / "set.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, array in digits().items():
                stored = array[:, None] if array.ndim == 1 else array
                stored = stored.reshape(len(array), -1) if keep == "rows" else stored
                file[name] = stored.T
        head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"
        with path.open("r+b") as file:
            file.write(head)
        looked_at(load(str(path)))


class TestParquet:
    def cell(self, image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    def write(self, path, x, y, names=None):
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        import pyarrow.parquet as pq

        table = pa.table({"image": [self.cell(image) for image in x], "label": y})
        if names:
            notes = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(notes)})
        pq.write_table(table, path)

    @pytest.mark.parametrize("names", [None, list("abcdefghij")])
    def test_as_the_hubs_store_it(self, tmp_path, names):
        """Folder data, a part in several files, labels with the names of the notes."""
        a = digits()
        (tmp_path / "data").mkdir()
        for part, n in PARTS.items():
            for piece, rows in enumerate(np.array_split(np.arange(n), 2)):
                path = tmp_path / "data" / f"{part}-{piece:05}-of-00002-0a1b2c3d.parquet"
                self.write(path, a[f"x_{part}"][rows], a[f"y_{part}"][rows], names)
        looked_at(load(str(tmp_path)), tuple(names or "0123456789"))

    def test_pictures_of_two_sizes(self, tmp_path):
        x = [np.eye(8, dtype=np.uint8) * 255, np.eye(9, dtype=np.uint8) * 255] * 6
        self.write(tmp_path / "a.parquet", x, [0, 1] * 6)
        with pytest.raises(DataError, match=r"found 8×8 and in row 2 9×9: `size` 8x8"):
            load(str(tmp_path / "a.parquet"))
        assert load(str(tmp_path / "a.parquet"), size=(8, 8)).image_shape == (8, 8)

    def test_without_pyarrow_it_is_said_how_to_get_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
        (tmp_path / "a.parquet").write_bytes(b"PAR1")
        with pytest.raises(DataError, match=r"pip install 'jaxnn\[parquet\]'"):
            load(str(tmp_path / "a.parquet"))


class TestUsps:
    def test_libsvms_text(self, tmp_path):
        """16×16 pixels from −1 to 1, those of −1 being left out or not, labels from 1."""
        import bz2

        a = digits()
        large = {p: np.kron(a[f"x_{p}"], np.ones((1, 2, 2), np.uint8)) for p in PARTS}
        for part, name in (("train", "usps.bz2"), ("test", "usps.t.bz2")):
            lines = [
                f"{y + 1} " + " ".join(f"{i}:{v:.6f}" for i, v in enumerate(row, 1))
                for y, row in zip(
                    a[f"y_{part}"], large[part].reshape(-1, 256) / 127.5 - 1, strict=True
                )
            ]
            (tmp_path / name).write_bytes(bz2.compress("\n".join(lines).encode() + b"\n"))
        dataset = load(str(tmp_path))
        assert dataset.image_shape == (16, 16)
        np.testing.assert_allclose(
            dataset.x_train.reshape(-1, 16, 16) * dataset.scale, large["train"] / 255, atol=1e-3
        )
        assert dataset.class_names == tuple(map(str, range(1, 11)))
        np.testing.assert_array_equal(dataset.y_test, a["y_test"])


def write_pictures(folder, part, mode="L", form="png", names=tuple("0123456789"), **changes):
    """A folder for each class, the pictures numbered as people number them: 1, 2, … 10, 11."""
    a = digits() | changes
    for number, (image, label) in enumerate(zip(a[f"x_{part}"], a[f"y_{part}"], strict=True), 1):
        place = folder / names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert(mode).save(place / f"{number}.{form}")
        (place / ".DS_Store").write_bytes(b"\0")


def by_class(a):
    """The arrays in the order of the folders."""
    order = {p: np.argsort(a[f"y_{p}"], kind="stable") for p in PARTS}
    return {n: v[order[n.split("_")[1]]] for n, v in a.items()}


class TestFolders:
    @pytest.mark.parametrize(
        ("train", "test"), [("train", "test"), ("training", "testing"), ("Train", "val")]
    )
    def test_of_both_parts(self, tmp_path, train, test):
        write_pictures(tmp_path / train, "train")
        write_pictures(tmp_path / test, "test")
        looked_at(load(str(tmp_path)), a=by_class(digits()))

    def test_without_a_test_part(self, tmp_path):
        write_pictures(tmp_path / "digits", "train", names=[f"digit {k}" for k in range(10)])
        dataset = load(str(tmp_path / "digits"))
        assert dataset.class_names == tuple(f"digit {k}" for k in range(10))
        assert (dataset.n_train, dataset.n_test) == (48, 12)
        dataset = load(str(tmp_path))  # a folder around it, as archives have one
        assert dataset.n_classes == 10

    @pytest.mark.parametrize("form", ["png", "bmp", "gif", "pgm"])
    def test_forms_of_pictures(self, tmp_path, form):
        for part in PARTS:
            write_pictures(tmp_path / part, part, form=form)
        looked_at(load(str(tmp_path)), a=by_class(digits()))

    def test_colours(self, tmp_path):
        """All channels, or grey."""
        for part in PARTS:
            write_pictures(tmp_path / part, part, mode="RGB")
        a = by_class(digits())
        dataset = load(str(tmp_path))
        assert dataset.image_shape == (8, 8, 3)
        np.testing.assert_array_equal(
            dataset.x_test.reshape(-1, 8, 8, 3), np.stack([a["x_test"]] * 3, axis=3)
        )
        looked_at(load(str(tmp_path), grey=True), a=a)

    def test_several_sizes(self, tmp_path):
        write_pictures(tmp_path / "a", "train")
        Image.new("L", (9, 7)).save(tmp_path / "a" / "3" / "other.png")
        with pytest.raises(DataError, match=r"2 sizes such as 8×8, 7×9: `size` 8x8 brings"):
            load(str(tmp_path / "a"))
        dataset = load(str(tmp_path / "a"), size=(16, 12))
        assert dataset.image_shape == (16, 12)
        assert "pictures scaled to 16×12" in dataset.remarks

    def test_a_damaged_picture_is_named(self, tmp_path):
        write_pictures(tmp_path / "a", "train")
        path = next((tmp_path / "a" / "4").glob("*.png"))
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(DataError, match=path.name):
            load(str(tmp_path / "a"))

    def test_a_class_that_only_the_test_part_has(self, tmp_path):
        for part in PARTS:
            write_pictures(tmp_path / part, part)
        write_pictures(tmp_path / "test", "test", names=[f"x{k}" for k in range(10)])
        with pytest.raises(DataError, match=r"test: folders as in the training part .* found x0"):
            load(str(tmp_path))

    def test_a_picture_alone_is_no_data_set(self, tmp_path):
        Image.new("L", (9, 9)).save(tmp_path / "a.png")
        with pytest.raises(DataError, match="a folder of pictures for each class"):
            load(str(tmp_path / "a.png"))

    def test_size_is_for_pictures_in_files(self, tmp_path):
        with pytest.raises(SettingError, match="`size`: pictures in files expected, found npz"):
            load(str(as_npz(tmp_path, named(NAMES["keras"]))), size=(8, 8))
