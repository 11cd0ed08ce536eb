"""`explore.html` in a real browser: its numbers are JAX's, drawn strokes included."""

import re
import shutil
from functools import wraps

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxnn.data import pictures
from jaxnn.gradcheck import verify_network
from jaxnn.nn.activations import ACTIVATIONS
from jaxnn.nn.losses import smooth
from jaxnn.nn.mlp import back_propagate, feed_forward, loss
from jaxnn.nn.optimisers import momentum
from jaxnn.report import explore
from jaxnn.runs.trained import Trained
from jaxnn.training.config import Config

from .. import trained_run
from . import explored

pytestmark = pytest.mark.slow

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip

DOCUMENT = Config(n_h=(64,))
DEEP = Config(
    n_h=(12, 9), activation="gelu", l2=0.003, label_smoothing=0.1, dropout=0.3, input_dropout=0.1
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    driver = shutil.which("chromedriver")
    if not (BROWSER and driver):
        pytest.skip("no Chromium with its chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


class Look:
    """A page that is open, and what its script knows."""

    def __init__(self, browser, path):
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser = browser
        browser.get_log("browser")
        browser.get(path.as_uri())
        self.until = WebDriverWait(browser, 30).until
        self.until(lambda _: self.js("return document.documentElement.dataset.ready"))

    def js(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def arrays(self, where):
        """The matrices of an object in the page's state, by name."""
        found = self.js(
            f"""const found = {where}, arrays = {{}};
            for (const [name, matrix] of Object.entries(found))
              arrays[name] = [matrix.rows, matrix.columns, Array.from(matrix.data)];
            return arrays;"""
        )
        return {
            name: np.reshape(data, (rows, columns)) for name, (rows, columns, data) in found.items()
        }

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def choose(self, selector, value):
        self.js(
            """const select = document.querySelector(arguments[0]);
            select.value = arguments[1];
            select.dispatchEvent(new Event("change"));""",
            selector,
            str(value),
        )

    def click(self, selector):
        self.js("document.querySelector(arguments[0]).click()", selector)

    def complaints(self):
        """What the browser's console says."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


def written(folder, config, dataset):
    network = explored.network(dataset, config)
    return explore.write(folder / "explore.html", network, dataset), network


def opened(browser, folder, config, dataset=None):
    path, network = written(folder, config, dataset or trained_run.digits())
    return Look(browser, path), network


@pytest.fixture(scope="module")
def document_page(tmp_path_factory):
    """784-64-10, as the document has it."""
    return written(tmp_path_factory.mktemp("document"), DOCUMENT, explored.enlarged())


@pytest.fixture
def document(browser, document_page):
    """Opened anew."""
    return Look(browser, document_page[0])


def in_float64(function):
    @wraps(function)
    def called(*args, **options):
        with jax.enable_x64(True):
            return function(*args, **options)

    return called


@in_float64
def by_jax(look, config, masks=None):
    """Everything that the page should have computed, from its input, label and parameters."""
    params = {
        name: jnp.asarray(value if name[0] == "W" else value[0])
        for name, value in look.arrays("jaxnn.state.params").items()
    }
    X = jnp.asarray(look.arrays("{X: jaxnn.state.X}")["X"])
    label = int(look.js("return document.getElementById('label').value"))
    Y = jax.nn.one_hot(
        jnp.asarray([label]), look.js("return jaxnn.run.classes.length"), dtype=jnp.float64
    )
    if config.label_smoothing:
        Y = smooth(Y, config.label_smoothing)
    g, l2 = ACTIVATIONS[config.activation], config.l2 or None
    masks = {name: jnp.asarray(value) for name, value in (masks or {}).items()}
    cache = feed_forward(params, X, g, masks=masks)
    return {
        "cache": cache,
        "d": back_propagate(params, cache, Y, g, l2=l2),
        "loss": float(loss(params, X, Y, g, masks=masks, l2=l2)),
        "params": params,
    }


def require_same(look, expected, rtol=1e-9):
    """The page computes in float64 as JAX does here: only the order of sums differs."""
    for part in ("cache", "d"):
        found = look.arrays(f"jaxnn.state.{part}")
        assert found.keys() == expected[part].keys()
        for name, value in expected[part].items():
            right = np.atleast_2d(np.asarray(value))
            size = np.abs(right).max()
            np.testing.assert_allclose(found[name], right, rtol, atol=rtol * size, err_msg=name)
    assert look.js("return jaxnn.state.loss") == pytest.approx(expected["loss"], rel=rtol)


def number(text):
    """The last number in a text of the page."""
    found = re.findall(r"[−-]?\d+(?:\.\d+)?(?:e[−-]?\d+)?", text)
    return float(found[-1].replace("−", "-"))


# -------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_forward_and_backward(browser, tmp_path, activation):
    config = Config(n_h=(9, 7), activation=activation)
    look, *_ = opened(browser, tmp_path, config)
    require_same(look, by_jax(look, config))
    assert look.complaints() == []


@pytest.mark.parametrize("n_h", [(), (7,), (6, 5, 4)], ids=str)
def test_every_depth_with_every_label(browser, tmp_path, n_h):
    config = Config(n_h=n_h)
    look, *_ = opened(browser, tmp_path, config)
    for label in (0, 9):
        look.choose("#label", label)
        require_same(look, by_jax(look, config))
    assert look.js("return Object.keys(jaxnn.state.d)") == list(by_jax(look, config)["d"])
    assert look.complaints() == []


def test_penalty_smoothing_and_masks_are_those_of_the_run_s_loss(browser, tmp_path):
    look, *_ = opened(browser, tmp_path, DEEP)
    require_same(look, by_jax(look, DEEP))
    look.click("#dropout")
    masks = look.arrays("jaxnn.state.masks")
    assert {name: mask.shape[1] for name, mask in masks.items()} == {"D0": 64, "D1": 12, "D2": 9}
    assert {*np.unique(masks["D1"]).round(9)} <= {0.0, round(1 / 0.7, 9)}
    require_same(look, by_jax(look, DEEP, masks))
    look.click("#redraw")
    assert any(
        (look.arrays("jaxnn.state.masks")[name] != mask).any() for name, mask in masks.items()
    )
    assert look.complaints() == []


def test_the_numbers_that_can_be_read_are_those_computed(document):
    """Each view by its keys: six digits of every entry, and the sums of every unit."""
    look = document
    expected = by_jax(look, DOCUMENT)
    values = {**expected["cache"], **expected["d"], "X": expected["cache"]["A0"]}
    read = look.js(
        """const found = {};
        for (const name of arguments[0]) {
          const handle = document.querySelector(`#card-${name} [aria-label="${name}"]`);
          const press = (key) => handle.dispatchEvent(new KeyboardEvent("keydown", { key }));
          const said = [];
          press("Home");
          for (let i = 0; i <= Number(handle.ariaValueMax); i++) {
            said.push(handle.nextSibling.textContent);
            press("ArrowRight");
          }
          found[name] = said;
        }
        return found;""",
        ["X", "Z1", "A1", "Z2", "A2", "dZ2", "dW2", "db2", "dA1", "dZ1", "db1"],
    )
    for name, said in read.items():
        right = np.asarray(values[name]).ravel()
        np.testing.assert_allclose([number(text) for text in said], right, rtol=1e-5, err_msg=name)
    assert number(look.text("#loss")) == pytest.approx(expected["loss"], rel=1e-5)
    cells = (
        "Array.from(document.querySelectorAll('#answers td:last-child'), (td) => td.textContent)"
    )
    answers = [number(text) for text in look.js(f"return {cells}")]
    np.testing.assert_allclose(answers, np.asarray(expected["cache"]["A2"])[0], rtol=1e-5)


def test_a_unit_shows_its_weights_their_products_and_the_sum(document):
    from selenium.webdriver.common.keys import Keys

    look = document
    expected = by_jax(look, DOCUMENT)
    handle = look.browser.find_element("css selector", "#card-Z1 [aria-label=Z1]")
    handle.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 5)
    W, b = (np.asarray(expected["params"][name])[5] for name in ("W1", "b1"))
    X = np.asarray(expected["cache"]["A0"])[0]
    said = look.text("#sum-1").replace("−", "-")
    numbers = [float(text) for text in re.findall(r"(?<![\w[])-?\d+\.\d+(?:e-?\d+)?", said)]
    Z, A = (float(expected["cache"][name][0, 5]) for name in ("Z1", "A1"))
    np.testing.assert_allclose(numbers, [W @ X, b, Z, A], rtol=1e-5)
    for label, row in (("its weights", W), ("weight × input", W * X)):
        said = look.js(
            """const handle = document.querySelector(`#unit-1 [aria-label="${arguments[0]}"]`);
            const press = (key) => handle.dispatchEvent(new KeyboardEvent("keydown", { key }));
            press("Home");
            const said = [];
            for (let i = 0; i < 784; i++) {
              said.push(handle.nextSibling.textContent);
              press("ArrowRight");
            }
            return said;""",
            label,
        )
        np.testing.assert_allclose([number(text) for text in said], row, rtol=1e-5)
    shown = [view for view in ("A1", "dA1", "dZ1", "db1") if look.js(
        "return document.querySelector(`#card-${arguments[0]} [aria-label]`).ariaValueNow", view
    ) == "5"]  # fmt: skip
    assert shown == ["A1", "dA1", "dZ1", "db1"]


def test_test_images_are_seen_to_the_bit_as_the_network_is_shown_them(document, document_page):
    look, network, dataset = document, document_page[1], explored.enlarged()
    images = look.js("return jaxnn.run.images")
    for at in (0, 40):
        look.choose("#which", "all")
        for _ in range(at // 24):
            look.click("#next")
        look.js("document.querySelectorAll('#thumbnails button')[arguments[0]].click()", at % 24)
        image = dataset.x_test[images["numbers"][at]].astype(np.float32) * np.float32(dataset.scale)
        np.testing.assert_array_equal(look.arrays("{X: jaxnn.state.X}")["X"][0], image)
        assert look.js("return jaxnn.state.label") == images["labels"][at]
        logits = network.logits_in_unit(image[None])
        assert look.js(
            "return jaxnn.state.cache.A2.data.indexOf(Math.max(...jaxnn.state.cache.A2.data))"
        ) == int(np.asarray(logits).argmax())


# --------------------------------------------------------------------------------- the drawing

STROKES = {
    "seven": [[(60, 60), (220, 70), (120, 230)]],
    "a small one in a corner": [[(30, 200), (34, 250)]],
    "an eight, to the corner": [
        [(140, 140), (70, 60), (220, 50), (140, 140), (60, 230), (279, 279), (140, 140)]
    ],
    "two strokes and a speck": [
        [(50, 50), (50, 150), (150, 150)],
        [(130, 90), (130, 240)],
        [(265, 265), (265, 265)],
    ],
    "one with an edge beside it": [[(3, 1), (3, 279)], [(120, 60), (130, 200)]],
    "one in a frame": [
        [(2, 2), (278, 2), (278, 278), (2, 278), (2, 2)],
        [(80, 80), (200, 80), (120, 210)],
    ],
}


def draw(look, strokes):
    """By a real pointer, pressed and moved."""
    from selenium.webdriver.common.action_chains import ActionChains

    paper = look.browser.find_element("css selector", "#paper")
    look.js("arguments[0].scrollIntoView({ block: 'center' })", paper)
    width, height = (paper.size[side] for side in ("width", "height"))
    for stroke in strokes:
        chain = ActionChains(look.browser, duration=20)
        (x, y), *rest = [
            (round((x - 140) * (width - 4) / 280), round((y - 140) * (height - 4) / 280))
            for x, y in stroke
        ]
        chain.move_to_element_with_offset(paper, x, y).click_and_hold()
        for x, y in rest:
            chain.move_to_element_with_offset(paper, x, y)
        chain.release().perform()


def picture_of(look, folder):
    """The drawing as a picture in a file: dark ink on white paper."""
    h, w = look.js("return [SHEET.h, SHEET.w]")
    ink = np.reshape(look.js("return Array.from(SHEET.ink)"), (h, w)).astype(np.uint8)
    Image.fromarray(255 - ink).save(folder / "drawing.png")
    return folder / "drawing.png"


@pytest.mark.parametrize("dataset", [explored.enlarged, trained_run.digits])
def test_drawn_strokes_are_framed_as_predict_frames_them(browser, tmp_path, dataset):
    config = Config(n_h=(12,))
    look, network = opened(browser, tmp_path, config, dataset())
    for strokes in STROKES.values():
        look.click("#clear")
        draw(look, strokes)
        assert look.text("#source").startswith("Your drawing")
        right = network.seen(*pictures.read(picture_of(look, tmp_path), network.frame.shape))
        seen = look.arrays("{X: jaxnn.state.X}")["X"]
        np.testing.assert_allclose(seen[0], right.ravel(), atol=1e-6)
        require_same(look, by_jax(look, config))
    assert look.complaints() == []


def test_the_pen_moves_by_keys_and_an_empty_sheet_is_said_to_be_empty(document):
    from selenium.webdriver.common.keys import Keys

    look = document
    paper = look.browser.find_element("css selector", "#paper")
    before = look.arrays("{X: jaxnn.state.X}")["X"]
    paper.send_keys(Keys.SPACE, *[Keys.ARROW_DOWN] * 5, Keys.SPACE)
    assert look.text("#pen") == "The pen is up."
    assert (look.arrays("{X: jaxnn.state.X}")["X"] != before).any()
    paper.send_keys(Keys.DELETE)
    assert look.js("return SHEET.ink.every((value) => value === 0)")
    assert look.text("#pen") == "An empty sheet."


# ------------------------------------------------------------------------------------- the step


def test_steps_are_those_of_the_momentum_rule_and_can_be_undone(document):
    look = document
    look.js(
        "document.getElementById('lr').value = '0.3'; document.getElementById('beta').value = '0.8'"
    )
    first = look.arrays("jaxnn.state.params")
    expected = by_jax(look, DOCUMENT)
    params, rule = expected["params"], momentum(lr=0.3, beta=0.8)
    state = in_float64(rule.init)(params)
    for _ in range(3):
        gradient = {name: by_jax(look, DOCUMENT)["d"][f"d{name}"] for name in params}
        update, state = in_float64(rule.update)(gradient, state)
        params = in_float64(jax.tree.map)(jnp.add, params, update)
        before = look.js("return jaxnn.state.loss")
        look.click("#step")
        assert look.js("return jaxnn.state.loss") < before
        for name, found in look.arrays("jaxnn.state.params").items():
            np.testing.assert_allclose(found, np.atleast_2d(params[name]), rtol=1e-9, atol=1e-12)
    require_same(look, by_jax(look, DOCUMENT))
    assert look.text("#stepped").startswith("3 steps. Loss")
    for _ in range(3):
        look.click("#undo")
    for name, found in look.arrays("jaxnn.state.params").items():
        np.testing.assert_array_equal(found, first[name])
    assert look.js("return document.getElementById('undo').disabled")


# --------------------------------------------------------------------------------- the mistakes


def codes(look):
    return [
        code
        for code in look.js(
            "return Array.from(document.querySelectorAll('#mistake option'), (o) => o.value)"
        )
        if code
    ]


@pytest.mark.parametrize(
    "config", [Config(n_h=(10,)), Config(n_h=(10, 10), activation="tanh")], ids=["one", "two"]
)
def test_the_doctor_names_every_planted_mistake(browser, tmp_path, config):
    look, _ = opened(browser, tmp_path, config)
    assert len(codes(look)) >= 15
    for code in codes(look):
        require_named(look, code, config)
    assert look.complaints() == []


def test_the_doctor_names_a_penalty_that_is_missing(browser, tmp_path):
    config = Config(n_h=(10,), l2=0.01)
    look, _ = opened(browser, tmp_path, config)
    require_named(look, "missing_regularisation", config)


def require_named(look, code, config):
    """The doctor's name for what the page has planted, and for its place, are the page's."""
    look.choose("#mistake", code)
    batch = "(({ X, Y }) => ({ X, Y }))(jaxnn.state.planted.batch)"
    X, Y = look.arrays(batch).values()
    wrong = look.arrays("jaxnn.state.planted.wrong")
    planted = {name: value[0] if name[:2] == "db" else value for name, value in wrong.items()}
    params = {
        name: value if name[0] == "W" else value[0]
        for name, value in look.arrays("jaxnn.state.params").items()
    }
    report = doctor(params, X, Y, config, planted)
    assert not report.ok, code
    assert report.findings[0].code == code
    cards = "Array.from(document.querySelectorAll('#backward .card.wrong'), (card) => card.id)"
    assert f"card-{report.findings[0].equation}" in look.js(f"return {cards}"), code


@in_float64
def doctor(params, X, Y, config, planted):
    return verify_network(
        {name: jnp.asarray(value) for name, value in params.items()},
        jnp.asarray(X),
        jnp.asarray(Y),
        ACTIVATIONS[config.activation],
        lambda *_, **__: {name: jnp.asarray(value) for name, value in planted.items()},
        l2=config.l2 or None,
    )


def test_a_transposed_W_is_refused_by_shapes_and_shown_where_it_is_square(document):
    look = document
    look.choose("#mistake", "weights_not_transposed")
    assert "8×10 cannot be multiplied by 64×10" in look.text("#numbers")
    assert "dA1" in look.text("#numbers .compared")
    assert look.js("return jaxnn.state.planted.wrong.dA1.columns") == 10


@pytest.mark.parametrize(("code", "notices"), [("sign", True), ("derivative_at_activation", False)])
def test_two_small_networks_train_one_with_the_mistake(document, code, notices):
    look = document
    look.choose("#mistake", code)
    look.click("#race")
    look.until(lambda _: look.js("return jaxnn.state.race.epoch") == 40)
    right, planted = look.js(
        "return jaxnn.state.race.runners.map((runner) => runner.history.map((h) => h.loss))"
    )
    assert right[0] == planted[0]
    assert right[-1] < 0.5 * right[0]
    assert (planted[-1] is None or planted[-1] > planted[0]) is notices
    assert "After 40 epochs" in look.text("#race-panel")
    assert look.complaints() == []


# ------------------------------------------------------------------------------ every reader


def emulate(browser, width, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_fits_its_window_and_text_can_be_read(browser, document_page, width, scheme):
    emulate(browser, width, scheme)
    look = Look(browser, document_page[0])
    look.choose("#mistake", "sign")
    assert look.js("return document.documentElement.scrollWidth") == width
    assert luminance_contrast(look, "--text", "--paper") > 7
    assert luminance_contrast(look, "--quiet", "--ground") > 4.5
    assert luminance_contrast(look, "--wrong", "--wrong-ground") > 4.5
    sizes = look.js(
        """return Array.from(document.querySelectorAll("main *"))
        .filter((each) => !each.closest("math"))
        .filter((each) => Array.from(each.childNodes).some(
          (node) => node.nodeType === Node.TEXT_NODE && node.data.trim()))
        .map((each) => parseFloat(getComputedStyle(each).fontSize))"""
    )
    assert min(sizes) >= 11
    assert look.complaints() == []
    emulate(browser, 1600, "light")


def luminance_contrast(look, *names):
    def luminance(name):
        colour = look.js(
            "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0])", name
        )
        channels = np.array([int(colour.strip()[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    darker, lighter = sorted(map(luminance, names))
    return (lighter + 0.05) / (darker + 0.05)


def test_every_control_is_reached_by_tab_and_has_a_name(document):
    look = document
    nameless = look.js(
        """return Array.from(document.querySelectorAll("button, select, input, [tabindex]"))
        .filter((each) => each.tabIndex < 0
          || !(each.ariaLabel || each.labels?.length || each.textContent.trim()))
        .map((each) => each.outerHTML)"""
    )
    assert nameless == []


def test_what_is_negative_is_darker_than_what_is_positive(document):
    """The scale of signed pictures tells its order without colour."""
    look = document
    shades = look.js("return Array.from({ length: 21 }, (_, i) => diverging(i / 10 - 1))")
    luminance = np.array(shades) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()


def test_names_of_classes_cannot_run(browser, tmp_path, monkeypatch):
    evil = '</script><img src=x onerror="window.evil = 1"><script>window.evil = 1</script>'
    monkeypatch.setattr(Trained, "class_names", (evil,) * 10)
    look, *_ = opened(browser, tmp_path, Config(n_h=(7,)))
    look.choose("#mistake", "sign")
    look.click("#step")
    assert look.js("return window.evil === undefined && document.images.length === 0")
    assert look.text("#label option") == evil
    assert look.complaints() == []
