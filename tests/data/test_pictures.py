"""A person's pictures: read from any file, or refused in one line, and framed as MNIST was."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnn.data import framing, look
from jaxnn.data import pictures as images
from jaxnn.data.framing import Frame, like_mnist, measure, prepare
from jaxnn.data.npy import NPY
from jaxnn.errors import DataError

from .. import small, trained_run
from ..data_files import replace

MNIST = like_mnist((28, 28))

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def drawing(height=200, width=160):
    """An L in ink, 0 to 1: 100 high, 60 wide, strokes of 20."""
    ink = np.zeros((height, width), np.float32)
    ink[40:140, 50:70] = 1
    ink[120:140, 50:110] = 1
    return ink


def grey(ink, paper=1.0, pen=0.0):
    return (paper + (pen - paper) * ink).astype(np.float32)


def file(path, pixels, mode="L", **options):
    """Grey values in [0, 1] as a picture in a file."""
    Image.fromarray((255 * pixels).round().astype(np.uint8)).convert(mode).save(path, **options)
    return path


def read_one(path, shape=(28, 28)):
    (picture,) = images.read(path, shape)
    return picture


def seen(path):
    return prepare(read_one(path).grey, MNIST)


class TestPrepare:
    def test_scaled_into_the_box_and_placed_by_the_centre_of_mass(self):
        image = prepare(grey(drawing()), MNIST)
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert (image.shape, image.dtype) == ((28, 28), np.float32)
        assert (len(rows), len(columns)) == (20, 12)  # 100×60 in a box of 20×20
        # The L's two strokes of 80·20 and 20·60 pixels have their centre of mass at these places
        # of 100×60, which come to lie on the middle, 14, to half a pixel.
        y, x = np.average([[40, 10], [90, 30]], axis=0, weights=[1600, 1200]) / 5 - 0.5
        assert (rows[0], columns[0]) == (round(14 - y), round(14 - x))
        assert image.max() == 1

    @pytest.mark.parametrize(
        ("paper", "pen"), [(1, 0), (0, 1), (0.8, 0.5), (0.3, 0.6), (200.0, 20.0)]
    )
    def test_dark_on_light_and_light_on_dark_are_the_same(self, paper, pen):
        expected = prepare(drawing(), MNIST)
        np.testing.assert_allclose(prepare(grey(drawing(), paper, pen), MNIST), expected, atol=1e-5)

    @pytest.mark.parametrize("size", [(200, 160), (1000, 160), (160, 1000)])
    def test_where_on_the_paper_it_is_does_not_matter(self, size):
        np.testing.assert_array_equal(
            prepare(drawing(*size), MNIST), prepare(drawing()[35:150, 45:115], MNIST)
        )

    def test_an_image_that_is_framed_already_stays_as_it_is(self):
        once = prepare(grey(drawing()), MNIST)
        np.testing.assert_array_equal(prepare(once, MNIST), once)

    @pytest.mark.parametrize(
        "light", [(0.9, 0.6, 0.9, 0.6), (0.9, 0.9, 0.5, 0.5), (0.9, 0.7, 0.7, 0.5)]
    )
    def test_uneven_light_and_noise(self, light):
        """Given are the corners' brightness: top left, top right, bottom left, bottom right."""
        across, down = np.linspace(0, 1, 160), np.linspace(0, 1, 200)[:, None]
        top_left, top_right, bottom_left, bottom_right = light
        top = top_left + (top_right - top_left) * across
        bottom = bottom_left + (bottom_right - bottom_left) * across
        paper = top + (bottom - top) * down
        noise = np.random.default_rng(0).normal(0, 0.02, paper.shape)
        photo = (paper - 0.4 * drawing() + noise).astype(np.float32)
        assert np.abs(prepare(photo, MNIST) - prepare(drawing(), MNIST)).mean() < 0.03

    def test_dust_is_not_part_of_the_digit(self):
        dusty = drawing()
        dusty[5, 5] = dusty[190, 150] = 1
        np.testing.assert_array_equal(prepare(dusty, MNIST), prepare(drawing(), MNIST))

    @pytest.mark.parametrize(("width", "pen"), [(1, 0.0), (3, 0.2), (2, 0.6)])
    @pytest.mark.parametrize("turned", [False, True])
    def test_a_frame_around_the_drawing_is_not_part_of_it(self, width, pen, turned):
        image = np.pad(grey(drawing()), width, constant_values=pen)
        image = 1 - image if turned else image
        np.testing.assert_allclose(prepare(image, MNIST), prepare(drawing(), MNIST), atol=1e-5)

    @pytest.mark.parametrize("side", range(4))
    @pytest.mark.parametrize(("width", "pen"), [(1, 0.0), (8, 0.1), (15, 0.3)])
    def test_nor_is_the_dark_edge_of_a_scan(self, side, width, pen):
        image = np.rot90(grey(drawing()), side).copy()
        image[:width] = pen
        image = np.rot90(image, -side)
        np.testing.assert_allclose(prepare(image, MNIST), prepare(drawing(), MNIST), atol=1e-5)

    @pytest.mark.parametrize("turned", [False, True])
    @pytest.mark.parametrize("flip", [(), (0,), (1,), (0, 1)])
    def test_a_crop_to_the_ink(self, turned, flip):
        """The bar of this 7 reaches into two corners and from side to side: it is no edge of a
        scan."""
        seven = np.zeros((200, 160), np.float32)
        seven[40:56, 50:110] = 1
        for row in range(56, 140):
            at = 110 - (row - 56) // 2
            seven[row, at - 16 : at] = 1
        image = np.flip(seven, flip)
        expected = prepare(image, MNIST)
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        cut = cut if turned else 1 - cut
        np.testing.assert_allclose(prepare(cut, MNIST), expected, atol=1e-5)

    @pytest.mark.parametrize("fill", [0.0, 0.5, 1.0])
    def test_a_blank_image_is_refused(self, fill):
        with pytest.raises(DataError, match="no ink: the image is blank"):
            prepare(np.full((50, 40), fill, np.float32), MNIST)

    def test_noise_on_paper_is_no_ink(self):
        noise = np.random.default_rng(0).normal(0.7, 0.05, (400, 300)).astype(np.float32)
        with pytest.raises(DataError, match="no ink"):
            prepare(noise, MNIST)

    @pytest.mark.parametrize(
        "ink", [[[1]], [[0, 1]], [[1], [0]], [[1, 0], [0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 0]]]
    )
    def test_a_dot_is_no_digit(self, ink):
        with pytest.raises(DataError, match="no ink"):
            prepare(np.array(ink, np.float32), MNIST)

    def test_ink_up_to_the_edge_stays_inside(self):
        frame = Frame((28, 28), (28, 28), (0.0, 27.0))
        image = prepare(drawing(), frame)
        assert np.flatnonzero(image.any(axis=1)).tolist() == list(range(28))


class TestFrame:
    def test_measured_on_images_that_keep_to_it(self):
        rng = np.random.default_rng(0)
        blots = rng.uniform(size=(50, 60, 40)) < 0.3
        stack = np.stack([prepare(np.pad(blot, 9).astype(np.float32), MNIST) for blot in blots])
        frame = measure((255 * stack).astype(np.uint8))
        assert frame.shape == (28, 28)
        assert frame.box[0] == 20
        np.testing.assert_allclose(frame.centre, (14, 14), atol=0.25)

    def test_of_the_embedded_digits(self):
        """Their 8×8 pixels are filled from top to bottom, unlike MNIST's."""
        digits = trained_run.digits()
        frame = measure(digits.x_train.reshape(-1, 8, 8))
        assert (frame.shape, frame.box) == ((8, 8), (8, 7))
        np.testing.assert_allclose(frame.centre, (3.5, 3.5), atol=0.1)

    def test_survives_json(self):
        frame = Frame((28, 20), (20, 14), (14.0, 10.5))
        assert Frame.from_dict(frame.to_dict()) == frame

    def test_images_without_a_shape_have_no_frame(self):
        dataset = small.dataset()
        assert framing.of_dataset(dataset, look.of_dataset(dataset)) is None

    @pytest.mark.parametrize("shape", [(28, 28), (20, 28)])
    def test_dark_on_light_has_the_same_frame(self, shape):
        stack = np.random.default_rng(0).uniform(size=(9, *shape)).astype(np.float32)
        stack *= np.pad(np.ones((shape[0] - 8, shape[1] - 8), np.float32), 4)
        expected = Frame(shape, (shape[0] - 8, shape[1] - 8), measure(stack).centre)
        assert measure(stack) == measure(0.95 - 0.9 * stack, 0.95, 0.05) == expected

    def test_black_images_alone_fall_back_on_proportions(self):
        assert measure(np.zeros((3, 14, 14), np.uint8)) == Frame((14, 14), (10, 10), (7, 7))

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"shape": [28, 28], "box": [29, 20], "centre": [14, 14]},
            {"shape": [28, 28], "box": [0, 20], "centre": [14, 14]},
            {"shape": 28, "box": [20, 20], "centre": [14, 14]},
            {"shape": [28, 28], "box": [20, 20], "centre": ["x", 14]},
        ],
    )
    def test_nonsense_is_noticed(self, values):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Frame.from_dict(values)


class TestForms:
    """Every form and every make of picture shows the network the same."""

    @pytest.fixture
    def expected(self):
        return prepare(drawing(), MNIST)

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA"])
    def test_png(self, tmp_path, mode, expected):
        path = file(tmp_path / "a.png", grey(drawing()), mode)
        np.testing.assert_allclose(seen(path), expected, atol=1e-5)

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    def test_jpeg(self, tmp_path, mode, expected):
        path = file(tmp_path / "a.jpg", grey(drawing()), mode, quality=90)
        assert np.abs(seen(path) - expected).mean() < 0.01

    def test_the_name_does_not_matter(self, tmp_path, expected):
        path = file(tmp_path / "a.csv", grey(drawing()), format="PNG")
        np.testing.assert_allclose(seen(path), expected, atol=1e-5)

    @pytest.mark.parametrize("dtype", ["u1", "<i8", ">u2", "f4", "<f8", ">f8", "f2", "?"])
    def test_npy(self, tmp_path, dtype, expected):
        np.save(tmp_path / "a.npy", (drawing() * 200).astype(dtype))
        np.testing.assert_allclose(seen(tmp_path / "a.npy"), expected, atol=1e-3)

    def test_npy_by_columns(self, tmp_path, expected):
        np.save(tmp_path / "a.npy", np.asfortranarray(drawing()))
        np.testing.assert_array_equal(seen(tmp_path / "a.npy"), expected)

    @pytest.mark.parametrize("separator", [",", ";", "\t", " ", ", "])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
    def test_csv(self, tmp_path, separator, end, expected):
        lines = [separator.join(f"{v:g}" for v in row) for row in drawing()]
        (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
        np.testing.assert_array_equal(seen(tmp_path / "a.csv"), expected)

    def test_sixteen_bits(self, tmp_path, expected):
        Image.fromarray((grey(drawing()) * 60000).astype(np.uint16)).save(tmp_path / "a.png")
        np.testing.assert_allclose(seen(tmp_path / "a.png"), expected, atol=1e-4)

    @pytest.mark.parametrize("ink", [0, 255])
    def test_transparent_paper(self, tmp_path, ink, expected):
        pixels = np.zeros((*drawing().shape, 4), np.uint8)
        pixels[..., :3] = ink
        pixels[..., 3] = 255 * drawing()
        Image.fromarray(pixels).save(tmp_path / "a.png")
        np.testing.assert_allclose(seen(tmp_path / "a.png"), expected, atol=1e-5)

    def test_entirely_transparent_is_blank(self, tmp_path):
        Image.new("RGBA", (30, 30)).save(tmp_path / "a.png")
        with pytest.raises(DataError, match="no ink"):
            seen(tmp_path / "a.png")

    def test_the_right_way_up_as_the_camera_says(self, tmp_path, expected):
        turned = np.rot90(grey(drawing()))
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: show a quarter turn clockwise
        path = file(tmp_path / "a.jpg", turned, quality=95, exif=exif)
        assert np.abs(seen(path) - expected).mean() < 0.01

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_a_large_photo_becomes_small_at_once(self, tmp_path, suffix, expected):
        large = np.kron(grey(drawing()), np.ones((16, 16), np.float32))
        picture = read_one(file(tmp_path / f"a.{suffix}", large))
        assert max(picture.grey.shape) < 2 * images.WORKING_SIZE
        assert np.abs(prepare(picture.grey, MNIST) - expected).mean() < 0.01


class TestSeveral:
    @pytest.mark.parametrize(
        ("shape", "count", "each"),
        [
            ((28, 28), 1, (28, 28)),
            ((5, 28, 28), 5, (28, 28)),
            ((3, 50, 40), 3, (50, 40)),
            ((784,), 1, (28, 28)),
            ((5, 784), 5, (28, 28)),
            ((784, 784), 1, (261, 261)),
            ((1, 784), 1, (28, 28)),
            ((30, 20), 1, (30, 20)),
        ],
    )
    def test_npy(self, tmp_path, shape, count, each):
        np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 255, shape, np.uint8))
        pictures = images.read(tmp_path / "a.npy", (28, 28))
        assert len(pictures) == count
        assert {picture.grey.shape for picture in pictures} <= {each, (262, 262)}

    def test_each_is_named_and_in_order(self, tmp_path):
        stack = np.stack([drawing() * level for level in (0.25, 0.5, 1)])
        np.save(tmp_path / "a.npy", stack)
        pictures = images.read(tmp_path / "a.npy", (28, 28))
        assert [p.where for p in pictures] == [f"{tmp_path / 'a.npy'} [{i}]" for i in range(3)]

    def test_rows_of_a_csv_as_long_as_an_image_of_the_run(self, tmp_path):
        rows = np.random.default_rng(0).integers(0, 255, (4, 20 * 10))
        np.savetxt(tmp_path / "a.csv", rows, fmt="%d", delimiter=",")
        pictures = images.read(tmp_path / "a.csv", (20, 10))
        assert [p.grey.shape for p in pictures] == [(20, 10)] * 4
        np.testing.assert_allclose(pictures[3].grey.ravel(), rows[3] / rows[3].max(), rtol=1e-6)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, pixels=b""):
    """A PNG that claims this size, whatever it holds."""
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return PNG + ihdr + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def npy(dtype, shape, data=b"", version=b"\1\0"):
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return NPY + version + struct.pack("<H", len(header)) + header + data


def pickled():
    content = io.BytesIO()
    np.save(content, np.array([{}, []], dtype=object), allow_pickle=True)
    return content.getvalue()


REFUSED = {
    "empty": (b"", "found an empty file"),
    "only line feeds": (b"\n\n\n", "found an empty file"),
    "html": (b"<html>", "line 1 does not consist of numbers"),
    "pdf": (b"%PDF-1.7\n\xff\xfe", "does not consist of numbers"),
    "gif": (b"GIF89a" + bytes(30), "a.bin: "),
    "header row": (b"label,pixel0\n1,2\n", "line 1 does not consist of numbers"),
    "words further down": (b"1,2\n3,x\n", "line 2 does not consist of numbers"),
    "ragged": (b"1,2,3\n1,2,3\n1,2\n", "line 3: 3 numbers expected .*, found 2"),
    "empty cell": (b"1,,3\n1,2,3\n", "line 1 does not consist of numbers"),
    "nan in csv": (b"1,nan\n2,3\n", "finite numbers expected"),
    "infinity in csv": (b"1,2\n2,inf\n", "finite numbers expected"),
    "too large in csv": (b"1,2\n2,1e39\n", "finite numbers expected"),
    "a line without end": (b"1 " * (1 << 20), "too long a line"),
    "lines without end": (b"1\n" * ((1 << 17) + 1), "too many lines"),
    "umlaut": ("1,ü".encode(), "does not consist of numbers"),
    "png of 4 thousand million pixels": (png(65_000, 65_000), "at most 89,478,485 pixels"),
    "png of 100 million pixels": (png(10_000, 10_000), "at most 89,478,485 pixels"),
    "png of more pixels than its bytes can hold": (png(8000, 8000), "a.bin: "),
    "jpeg of more pixels than its bytes can hold": (
        JPEG + b"\xdb" + (67).to_bytes(2) + bytes(65)
        + b"\xff\xc0" + (11).to_bytes(2) + b"\x08" + (8000).to_bytes(2) * 2 + b"\1\1\x11\0"
        + b"\xff\xda" + (8).to_bytes(2) + b"\1\1\0\0\x3f\0",
        "a.bin: ",
    ),
    "png of no pixels": (png(0, 5), "a.bin: "),
    "png without pixels": (png(9, 9), "a.bin: "),
    "png without a header": (PNG, "found a damaged header"),
    "jpeg magic alone": (JPEG + b"\xe0", "found a damaged header"),
    "npy magic alone": (NPY, "a.bin: "),
    "npy of objects": (pickled(), "never unpickled"),
    "npy of text": (npy("<U3", (2, 2), bytes(48)), "an array of numbers expected"),
    "npy of complex": (npy("<c8", (2, 2), bytes(32)), "an array of numbers expected"),
    "npy of dates": (npy("<M8[s]", (2, 2), bytes(32)), "an array of numbers expected"),
    "npy too short": (npy("<f4", (2, 2), bytes(15)), r"\(2, 2\) expected .*, found 15 bytes"),
    "npy too long": (npy("<f4", (2, 2), bytes(17)), r"\(2, 2\) expected .*, found 17 bytes"),
    "npy of absurd size": (npy("<f8", (10**12, 10**12)), "expected .*, found 0 bytes"),
    "npy of negative size": (npy("|u1", (-2, -2), bytes(4)), "a.bin: "),
    "npy of no pixels": (npy("|u1", (0, 5)), "1 to 67,108,864 pixels expected"),
    "npy of four dimensions": (npy("|u1", (1, 2, 2, 2), bytes(8)), r"found shape \(1, 2, 2, 2\)"),
    "npy of a number": (npy("|u1", (), bytes(1)), r"found shape \(\)"),
    "npy of a row": (npy("|u1", (7,), bytes(7)), r"found shape \(7,\)"),
    "npy of too many": (npy("|u1", (10_001, 1, 2), bytes(20_002)), "n up to 10,000"),
    "npy of nan": (npy("<f4", (1, 2), b"\0\0\xc0\x7f" * 2), "finite numbers expected"),
    "npy version 9": (npy("|u1", (1, 2), bytes(2), b"\x09\0"), "a.bin: "),
    "npy header of code": (npy("|u1", "__import__('os').abort()", bytes(2)), "a.bin: "),
}  # fmt: skip


class TestRefused:
    @pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
    def test_in_one_line_that_names_the_file(self, tmp_path, content, message):
        path = tmp_path / "a.bin"
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            images.read(path, (28, 28))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_large_file_is_not_read_to_its_end(self, tmp_path, monkeypatch):
        monkeypatch.setattr(images, "LARGEST_FILE", 100)
        (tmp_path / "a.csv").write_bytes(b"1,2\n" * 26)
        with pytest.raises(DataError, match="at most 100 bytes expected"):
            images.read(tmp_path / "a.csv", (28, 28))

    def test_a_file_that_is_not_there_and_a_folder(self, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            images.read(tmp_path / "a.png", (28, 28))
        with pytest.raises(DataError, match="found a folder"):
            images.read(tmp_path, (28, 28))

    def test_a_device_is_not_waited_for(self):
        with pytest.raises(DataError, match="found another kind of file"):
            images.read(Path("/dev/zero"), (28, 28))


SMALL = (np.arange(48).reshape(6, 8) * 5).astype(np.uint8)


def small_file(form):
    content = io.BytesIO()
    if form == "npy":
        np.save(content, SMALL)
    elif form == "csv":
        np.savetxt(content, SMALL, fmt="%d", delimiter=",")
    else:
        Image.fromarray(SMALL).save(content, form)
    return content.getvalue()


def outcomes(path, versions):
    """What reading each of these contents gives: pixels, or None where it is refused."""
    for content in versions:
        replace(path, content)
        try:
            yield [picture.grey for picture in images.read(path, (28, 28))]
        except DataError:
            yield None


def flips(content, bits=range(8)):
    """The content with every single bit flipped in turn."""
    for place in range(len(content)):
        for bit in bits:
            yield content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


class TestDamaged:
    @pytest.mark.parametrize("form", ["png", "npy"])
    def test_every_truncation_is_refused(self, tmp_path, form):
        """What is left of a PNG's end mark does not matter: all of its pixels are there."""
        content = small_file(form)
        whole = len(content) - (12 if form == "png" else 0)
        results = list(outcomes(tmp_path / "a", (content[:n] for n in range(whole))))
        assert results == [None] * whole

    @pytest.mark.parametrize("form", ["jpeg", "csv"])
    def test_every_truncation_is_refused_or_read(self, tmp_path, form):
        content = small_file(form)
        results = list(outcomes(tmp_path / "a", (content[:n] for n in range(len(content)))))
        assert len(results) == len(content)
        assert results[0] is None

    def test_a_flipped_bit_of_a_png_is_noticed_or_does_no_harm(self, tmp_path):
        expected = SMALL / np.float32(255)
        results = [r for r in outcomes(tmp_path / "a", flips(small_file("png"))) if r is not None]
        for (pixels,) in results:
            np.testing.assert_array_equal(pixels, expected)

    @pytest.mark.parametrize(
        ("form", "bits"), [("jpeg", (0, 7)), ("npy", range(8)), ("csv", range(8))]
    )
    def test_a_flipped_bit_never_raises_anything_else(self, tmp_path, form, bits):
        """These forms have no checksum: another picture can come of it, but nothing worse."""
        content = small_file(form)
        results = list(outcomes(tmp_path / "a", flips(content, bits)))
        assert len(results) == len(bits) * len(content)
        assert None in results
        for pictures in filter(None, results):
            assert all(np.isfinite(pixels).all() for pixels in pictures)
