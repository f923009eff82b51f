"""The web page in a headless Chromium, as people use it."""

import os
import re
import shutil
import statistics
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("h11", reason="h11 is not installed here")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed here")
axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed here")

from kws_edge import Model, TaughtWords, find_word  # noqa: E402
from kws_edge.service.clips import WRONG, ClipFolder  # noqa: E402
from tests.conftest import wait_until  # noqa: E402
from tests.served import measured_model, served, unmeasured_model  # noqa: E402
from tests.voices import RATE, record  # noqa: E402

pytestmark = pytest.mark.host

AXE = Path(axe.__file__).parent / "axe.min.js"
WIDTHS = (360, 1280)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("chromium is not installed here")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--mute-audio"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory, demo_stream):
    sections = '[web]\nport = 0\n[clips]\nfolder = "clips"\n'
    with served(tmp_path_factory.mktemp("browser") / "s", sections, demo_stream) as s:
        assert s.port
        yield s


@pytest.fixture
def open_page(browser):
    """Open the page of a service. What the console says, other than that, is an error at the end."""
    contexts, said = [], []

    def open_page(service, *, width=1280, scheme="light", wait="#scores li"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: message.type != "verbose" and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: "/api/live" not in request.url and said.append(request.url))
        page.goto(f"http://127.0.0.1:{service.port}/")
        if wait:
            page.wait_for_selector(wait)
        return page

    open_page.said = said
    yield open_page
    for context in contexts:
        context.close()
    assert not said


def until(page, expression, arg=None):
    """Wait until an expression is true. The page's policy forbids Playwright's own way, which is eval()."""
    wait_until(lambda: page.evaluate(expression, arg), 60)


def text_of(page, name, begin):
    """Wait until the text of an element begins with something."""
    until(page, "([name, begin]) => document.getElementById(name).textContent.startsWith(begin)", [name, begin])


def settings(service):
    return service.event("begin")["rooms"][0]


def test_detections_are_shown_within_half_a_second(service, open_page):
    """From the service's decision to the page, by the clock that both have. The middle one of five counts."""
    page = open_page(service)
    page.evaluate("""() => {
        window.shown = [];
        new MutationObserver((changes) => {
            for (const change of changes) for (const node of change.addedNodes) {
                window.shown.push([node.querySelector("strong").textContent, Date.now() / 1000]);
            }
        }).observe(document.getElementById("detections"), { childList: true });
    }""")
    made = []
    with service.events() as events:
        for name, values in events:
            if name == "detection":
                made.append((values["keyword"], time_of(values["time"])))
            if len(made) == 5:
                break
    wait_until(lambda: len(page.evaluate("window.shown")) >= 5, 30)
    shown = page.evaluate("window.shown")[-5:]
    assert [word for word, _ in shown] == [word for word, _ in made]
    delays = [at - of for (_, at), (_, of) in zip(shown, made, strict=True)]
    assert statistics.median(delays) < 0.5, delays


def time_of(text):
    import datetime

    return datetime.datetime.fromisoformat(text).timestamp()


def test_the_live_values_move(service, open_page):
    page = open_page(service)
    text_of(page, "connection", "Hearing")
    pixels = """() => {
        const canvas = document.getElementById("waterfall");
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.width, canvas.height, new Set(data).size];
    }"""
    level = page.locator("#level")
    wait_until(lambda: -70 < float(level.get_attribute("aria-valuenow")) < 0, 30)
    wait_until(lambda: any(float(one) > 0.3 for one in page.locator("#scores .number").all_text_contents()), 60)
    width, height, colours = page.evaluate(pixels)
    assert (width, height) == (1000, 40)
    assert colours > 60


def test_marks_of_detections_are_seen_on_a_phone(service, open_page):
    """A mark is wider than a pixel of the screen, however narrow the spectrogram is drawn."""
    page = open_page(service, width=360)
    width = """() => {
        const canvas = document.getElementById("waterfall");
        const copy = new OffscreenCanvas(canvas.width, 1).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const row = copy.getImageData(0, 0, canvas.width, 1).data;
        let white = 0, most = 0;
        for (let at = 0; at < row.length; at += 4) {
            white = row[at] === 255 && row[at + 1] === 255 && row[at + 2] === 255 ? white + 1 : 0;
            most = Math.max(most, white);
        }
        return most * canvas.clientWidth / canvas.width;
    }"""
    wait_until(lambda: page.evaluate(width) > 0, 60)
    assert page.evaluate(width) > 1


def test_a_change_of_sensitivity_takes_effect(open_page, tmp_path, demo_stream):
    model = measured_model(tmp_path / "measured.tflite")
    with served(tmp_path / "s", f'[web]\nport = 0\n[model]\nfile = "{model}"\n', demo_stream) as s:
        page = open_page(s)
        before = settings(s)["thresholds"]
        page.get_by_label("Sensitivity").focus()
        page.keyboard.press("End")
        text_of(page, "sensitivity-value", "1.00")
        wait_until(lambda: settings(s)["sensitivity"] == 1, 30)
        after = settings(s)["thresholds"]
        assert after == {word: pytest.approx(before[word] - 0.2) for word in before}
        until(
            page,
            "(text) => [...document.querySelectorAll('#words output')].map((one) => one.textContent).join() === text",
            ",".join(f"{value:.2f}" for value in after.values()),
        )
        text_of(page, "settings-status", "Changed, but not saved yet.")
        page.get_by_role("button", name="Save").click()
        text_of(page, "settings-status", "Saved")
        page.context.close()  # before the service ends, which the console would tell


def test_a_model_without_operating_points_has_no_slider_for_the_sensitivity(open_page, tmp_path, demo_stream):
    model = unmeasured_model(tmp_path / "unmeasured.tflite")
    with served(tmp_path / "s", f'[web]\nport = 0\n[model]\nfile = "{model}"\n', demo_stream) as s:
        page = open_page(s)
        until(page, "() => document.getElementById('sensitivity').disabled", None)
        assert page.get_by_text("set thresholds instead").is_visible()
        page.context.close()


def test_words_and_thresholds_change_by_keyboard(service, open_page):
    page = open_page(service)
    page.get_by_label("Threshold of stop").focus()
    page.keyboard.press("ArrowRight")
    wait_until(lambda: settings(service)["thresholds"]["stop"] == 0.57, 30)
    page.get_by_role("checkbox", name="stop").focus()
    page.keyboard.press("Space")
    wait_until(lambda: "stop" not in settings(service)["keywords"], 30)
    until(page, "document.querySelectorAll('#scores li').length === 9")
    assert page.get_by_label("Threshold of stop").is_disabled()
    page.keyboard.press("Space")
    wait_until(lambda: "stop" in settings(service)["keywords"], 30)


def test_the_last_word_cannot_be_switched_off(service, open_page):
    page = open_page(service)
    assert service.ask("POST", "/api/settings", {"room": "kitchen", "keywords": ["yes"]})[0] == 200
    until(page, "document.querySelectorAll('#scores li').length === 1")
    page.get_by_role("checkbox", name="yes").click()
    text_of(page, "settings-status", "Not done")
    assert page.get_by_role("checkbox", name="yes").is_checked()
    words = settings(service)["possible"]
    assert service.ask("POST", "/api/settings", {"room": "kitchen", "keywords": words})[0] == 200
    until(page, "document.querySelectorAll('#scores li').length === 10")
    open_page.said[:] = [text for text in open_page.said if "status of 400" not in text]  # what was asked for


def test_clips_are_heard_labelled_and_deleted(service, open_page):
    wait_until(lambda: len(service.ask("GET", "/api/clips")[1]["clips"]) > 2, 60)
    page = open_page(service)
    page.wait_for_selector("#clips li")
    length = page.evaluate("""async () => {
        const audio = document.querySelector("#clips audio");
        await new Promise((resolve, reject) => {
            audio.onloadedmetadata = resolve;
            audio.onerror = () => reject(audio.error);
            audio.load();
            audio.preload = "auto";
        });
        return audio.duration;
    }""")
    assert 1.4 < length < 1.6
    first = page.locator("#clips li").first
    name = re.search(r"name=([^&]+)", first.locator("audio").get_attribute("src"))[1]
    first.get_by_role("combobox").select_option("unknown")
    first.get_by_role("button", name="It is this word").click()
    text_of(page, "clips-status", "Labelled")

    def labelled():
        clips = service.ask("GET", "/api/clips")[1]["clips"]
        return [clip for clip in clips if clip["name"].startswith(name.rpartition("-")[0])]

    (clip,) = labelled()
    assert (clip["word"], clip["kind"]) == ("unknown", "checked")
    wait_until(lambda: page.locator(f"#clips audio[src*='{clip['name']}']").count(), 30)
    delete = page.locator(f"#clips li:has(audio[src*='{clip['name']}'])").get_by_role("button", name="delete")
    delete.click()
    assert len(labelled()) == 1
    page.get_by_role("button", name="Really delete?").click()
    wait_until(lambda: not labelled(), 30)


def test_a_wrong_detection_goes_to_the_other_words(service, open_page):
    page = open_page(service, wait="#detections button")
    before = [clip["kind"] for clip in service.ask("GET", "/api/clips")[1]["clips"]].count("wrong")
    known = page.locator("#detections li").count()  # a new detection: the last clip was deleted above
    wait_until(lambda: page.locator("#detections li").count() > known, 60)
    page.locator("#detections button").first.click()
    page.wait_for_selector("#detections [role=status]:has-text('Noted')")

    def wrong():
        return [c for c in service.ask("GET", "/api/clips")[1]["clips"] if c["kind"] == "wrong"]

    wait_until(lambda: len(wrong()) == before + 1, 30)
    assert wrong()[0]["word"] == "unknown"


def test_the_doctor_and_a_calibration(service, open_page):
    page = open_page(service)
    page.get_by_role("button", name="Examine the sound").click()
    page.wait_for_selector("#findings p")
    assert "dBFS" in page.locator("#findings").text_content()
    page.get_by_role("button", name="Begin").click()
    page.wait_for_selector("#calibration-progress")
    wait_until(lambda: float(page.locator("#calibration-progress").get_attribute("value")) > 0, 30)
    page.get_by_role("button", name="End now").click()
    page.wait_for_selector("#calibration-status:has-text('3 min are the least')")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(service, open_page, width, scheme):
    page = open_page(service, width=width, scheme=scheme, wait="#clips li")
    page.get_by_role("button", name="Examine the sound").click()
    page.wait_for_selector("#findings p")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.evaluate(AXE.read_text() + ";0")
    found = page.evaluate("axe.run()")["violations"]
    assert not [(one["impact"], one["id"], [node["html"] for node in one["nodes"]]) for one in found]
    small = page.evaluate("""() => [...document.querySelectorAll("button, input, select, audio")].filter((one) => {
        const box = one.getBoundingClientRect();
        return box.width && (box.height < 20 || box.right > innerWidth + 1 || box.left < -1);
    }).map((one) => one.outerHTML)""")
    assert not small


def test_every_control_is_reached_by_tab(service, open_page):
    """The page is used without a mouse: each control gets the focus in turn, and shows it."""
    page = open_page(service, wait="#clips li")
    wanted = page.evaluate("""() =>
        [...document.querySelectorAll("#page button, #page input, #page select, #page audio")]
        .filter((one) => one.getBoundingClientRect().width && !one.disabled).length""")
    page.evaluate("document.body.focus()")
    seen = set()
    for _ in range(300):
        page.keyboard.press("Tab")
        found = page.evaluate("""() => {
            const one = document.activeElement;
            window.order ??= new Map();
            if (!window.order.has(one)) window.order.set(one, window.order.size);
            const inside = one.closest("#page") && one.matches("button, input, select, audio");
            const shows = one.matches("audio") || getComputedStyle(one).outlineStyle !== "none"; // audio: inside
            return [window.order.get(one), inside, shows];
        }""")
        if found[1]:
            assert found[2]
            seen.add(found[0])
        if len(seen) >= wanted:
            return
    raise AssertionError(f"{len(seen)} of {wanted} controls")


def test_log_in_and_a_restart(open_page, demo_stream, tmp_path):
    sections = '[web]\nport = {}\nhosts = ["voice.example"]\n'
    with served(tmp_path, sections.format(0), demo_stream) as s:
        port, token = s.port, re.search(r"the token is ([0-9a-f]+);", s.log)[1]
        page = open_page(s, wait="#login")
        page.evaluate(AXE.read_text() + ";0")
        assert not page.evaluate("axe.run()")["violations"]
        assert page.locator("#token").evaluate("(one) => one === document.activeElement")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#login-error:has-text('the token is wrong')")
        page.locator("#token").fill(token)
        page.keyboard.press("Enter")
        page.wait_for_selector("#scores li")
        s.end()
        page.wait_for_selector("#connection.bad")
    with served(tmp_path, sections.format(port), demo_stream) as s:
        assert s.port == port
        page.wait_for_selector("#login:not([hidden])")
        page.locator("#token").fill(token)
        page.keyboard.press("Enter")
        page.wait_for_selector("#page:not([hidden]) #scores li")
        page.get_by_role("button", name="Log out").click()
        page.wait_for_selector("#login:not([hidden])")
    # Chromium itself reports requests that the tests let fail.
    open_page.said[:] = [
        text for text in open_page.said if "403" not in text and "401" not in text and "ERR_" not in text
    ]


@pytest.mark.skipif("KWS_TEST_PICTURES" not in os.environ, reason="KWS_TEST_PICTURES names no folder for pictures")
@pytest.mark.parametrize(
    ("name", "width", "height", "scheme"), [("page", 1280, 1250, "light"), ("phone", 360, 720, "dark")]
)
def test_pictures_for_the_docs(service, open_page, name, width, height, scheme):
    page = open_page(service, width=width, scheme=scheme, wait="#detections li:nth-child(6)")
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(11_000)  # the spectrogram is full
    page.screenshot(path=Path(os.environ["KWS_TEST_PICTURES"]) / f"web-{name}.png")


def test_a_word_is_taught_from_clips_and_removed(open_page, tmp_path):
    """By hand, on a page that axe finds nothing wrong with."""
    recordings = record(tmp_path)
    model = Model("commands12")
    words = TaughtWords(model, tmp_path / "taught.json")
    words.teach("lamp", [find_word(one, RATE) for one in recordings["lamp"][:5]], date="2026-11-28")
    clips = ClipFolder(str(tmp_path / "clips"), most_bytes=10**9)
    for samples in recordings["banana"][:3]:
        clips.add(samples[RATE // 2 :], RATE, room="kitchen", word="lamp", score=0.5, kind=WRONG)
    soundfile.write(tmp_path / "said.wav", recordings["kitchen"][0], RATE)
    sections = '[model]\ntaught = "taught.json"\n[web]\nport = 0\n[clips]\nfolder = "clips"\n'
    with served(tmp_path, sections, tmp_path / "said.wav") as service:
        page = open_page(service, wait="#clips .choice input", width=360)
        until(page, "() => document.querySelector('#taught strong')?.textContent === 'lamp'")
        assert page.get_by_text("lamp (taught)").is_visible()
        page.get_by_label("Teach a word").fill("banana")
        page.get_by_role("button", name="Teach it from the chosen clips").click()
        text_of(page, "taught-status", "Not done: 0 takes of 'banana'; give 3 to 10")
        for box in page.locator("#clips .choice input").all():
            box.check()
        text_of(page, "teach-count", "3 clips are chosen.")
        page.evaluate(AXE.read_text() + ";0")
        assert not page.evaluate("axe.run()")["violations"]
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.get_by_role("button", name="Teach it from the chosen clips").click()
        text_of(page, "taught-status", "Taught banana.")
        page.wait_for_selector("#scores li:has-text('banana')")
        page.get_by_label("Threshold of banana").focus()
        page.keyboard.press("ArrowRight")
        text_of(page, "settings-status", "Changed in every room, and saved.")
        page.get_by_role("button", name="Remove lamp").click()
        page.get_by_role("button", name="Really remove?").click()
        text_of(page, "taught-status", "Removed lamp.")
        until(
            page, "() => ![...document.querySelectorAll('#scores li')].some((one) => one.textContent.includes('lamp'))"
        )
        assert list(TaughtWords(model, words.path)) == ["banana"]
        page.context.close()
    open_page.said[:] = [text for text in open_page.said if "status of 400" not in text]  # what was asked for
