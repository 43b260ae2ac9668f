"""The playground in a headless Chromium, against prepared completions. Skipped without playwright or a Chromium."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from chromium import launched, refused_directive
from completion_server import CompletionServer, Reply, completed, done, error, event, refused, token
from neort.server.playground import CONTENT_SECURITY_POLICY
from patience import PATIENCE

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: see docs/playground.md")
expect = sync_api.expect
expect.set_options(timeout=PATIENCE * 1000)

DEFAULTS = {
    "max_tokens": 128,
    "repetition_penalty": 1,
    "temperature": 1,
    "top_p": 1,
    "top_k": 0,
    "min_p": 0,
}
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def address_of() -> Iterator[tuple[CompletionServer, str]]:
    server = CompletionServer()
    with server.running() as address:
        yield server, address


@pytest.fixture
def server(address_of: tuple[CompletionServer, str]) -> CompletionServer:
    address_of[0].reset()
    return address_of[0]


class Pages:
    """Opens the page; ``faults`` are what browsers' consoles said besides the statuses of answers."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        self.address = address
        self.contexts: list[Any] = []
        self.faults: list[str] = []

    def open(self, fragment: str = "", *, models: bool = True, **options: Any) -> Any:
        context = self.browser.new_context(**options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        page.on("console", self._heard)
        page.goto(self.address + fragment)
        if models:
            page.wait_for_selector("select option", state="attached")
        return page

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.faults.append(message.text)


@pytest.fixture
def pages(browser: Any, server: CompletionServer, address_of: tuple[CompletionServer, str]) -> Iterator[Pages]:
    pages = Pages(browser, address_of[1])
    yield pages
    for context in pages.contexts:
        context.close()
    assert pages.faults == []


def generate(page: Any, prompt: str = "Once upon") -> None:
    """Write the prompt, press the button, and wait for the end of all texts."""
    page.fill("#prompt", prompt)
    page.click("#generate")
    finished(page)


def finished(page: Any) -> None:
    expect(page.locator("#generate")).to_have_text("Generate")


def output(page: Any, lane: int = 0) -> Any:
    return page.locator(".output").nth(lane)


def tokens(page: Any) -> Any:
    return page.locator(".token")


# Writing


def test_a_token_is_shown_when_it_comes_and_the_end_is_told_once(server: CompletionServer, pages: Pages) -> None:
    second = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield token(" a")
        second.wait(PATIENCE)
        yield token(" time", reason="length") + done(2)

    server.reply = lambda _: Reply(pieces())
    page = pages.open()
    page.fill("#prompt", "Once upon")
    page.click("#generate")
    expect(tokens(page)).to_have_count(1)
    expect(page.locator("#generate")).to_have_text("Stop")
    expect(page.locator("#status")).to_have_text("Generating.")
    second.set()
    finished(page)
    expect(output(page)).to_contain_text("Once upon a time")
    expect(page.locator("#status")).to_contain_text("small: 2 tokens")
    figures = page.locator(".figures").inner_text()
    assert re.fullmatch(r"2 tokens · [\d.]+ tokens/s · first after [\d.]+ m?s · seed \d+ · max_tokens reached", figures)


def test_a_request_is_what_the_page_shows(server: CompletionServer, pages: Pages) -> None:
    page = pages.open()
    page.fill("[name=seed]", "7")
    generate(page, "Once upon")
    assert server.requests == [
        {
            **DEFAULTS,
            "model": "small",
            "prompt": "Once upon",
            "seed": 7,
            "stream": True,
            "logprobs": 5,
            "stream_options": {"include_usage": True},
        }
    ]


def test_options_go_with_the_request(server: CompletionServer, pages: Pages) -> None:
    page = pages.open()
    chosen = {"max_tokens": 5, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.2}
    for name, value in chosen.items():
        page.fill(f"[name={name}]", str(value))
    page.fill("[name=stop]", "The end\n\\n\\n")
    generate(page)
    request = server.requests[0]
    assert {name: request[name] for name in chosen} == chosen
    assert request["stop"] == ["The end", "\n\n"]


def test_greedy_needs_no_option_of_sampling(server: CompletionServer, pages: Pages) -> None:
    page = pages.open()
    page.check("[name=greedy]")
    expect(page.locator("[name=top_p]")).to_be_disabled()
    generate(page)
    assert server.requests[0]["temperature"] == 0
    assert {"top_p", "top_k", "min_p", "seed"}.isdisjoint(server.requests[0])


def test_a_seed_that_the_page_chose_repeats_the_text(server: CompletionServer, pages: Pages) -> None:
    page = pages.open()
    generate(page)
    found = re.search(r"seed (\d+)", page.locator(".figures").inner_text())
    assert found is not None
    assert server.requests[0]["seed"] == int(found[1])


@pytest.mark.parametrize(("name", "value"), [("top_p", "7"), ("max_tokens", "0"), ("top_k", "1.5"), ("seed", "-1")])
def test_a_value_out_of_range_is_shown_and_not_sent(
    server: CompletionServer, pages: Pages, name: str, value: str
) -> None:
    page = pages.open(viewport={"width": 500, "height": 800})  # where the options are folded
    page.click("summary")
    page.fill(f"[name={name}]", value)
    page.click("summary")
    page.click("#generate")
    control = page.locator(f"[name={name}]")
    expect(control).to_be_focused()
    expect(control).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#status")).to_have_text(f"{name} is out of range.")
    assert server.requests == []
    page.click(".reset")
    expect(control).to_have_attribute("aria-invalid", "false")


def test_what_models_and_people_write_is_never_html(server: CompletionServer, pages: Pages) -> None:
    server.models = [EVIL]
    server.reply = lambda _: Reply([token(EVIL, -3.0, {EVIL: -3.0, f" {EVIL}": -4.0}), done(1)])
    page = pages.open()
    generate(page, EVIL)
    tokens(page).first.focus()
    expect(page.locator(".card")).to_be_visible()
    expect(output(page)).to_have_text(EVIL + EVIL)
    assert page.locator("main img, main script").count() == 0
    assert page.title() == "neort playground"


def test_messages_of_errors_are_never_html(server: CompletionServer, pages: Pages) -> None:
    server.reply = lambda _: refused(400, EVIL)
    page = pages.open()
    generate(page)
    expect(page.locator(".sentence")).to_have_text(EVIL)
    assert page.locator("main img").count() == 0


def test_the_policy_is_in_force(pages: Pages) -> None:
    page = pages.open()
    assert refused_directive(page) == "script-src-elem"
    assert page.title() == "neort playground"
    assert page.goto(pages.address).headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    pages.faults.clear()


def test_continue_goes_on_from_what_is_there(server: CompletionServer, pages: Pages) -> None:
    page = pages.open()
    generate(page, "Once")
    page.fill("#prompt", "another one")  # which is for the next text
    page.click(".continue")
    finished(page)
    assert [request["prompt"] for request in server.requests] == ["Once", "Once a text"]
    expect(output(page)).to_contain_text("Once a text a text")


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_stop_ends_the_request_and_keeps_the_text(server: CompletionServer, pages: Pages, way: str) -> None:
    stopped = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield token(" kept")
        stopped.wait(PATIENCE)
        while not server.left.is_set():
            yield token(" lost")

    server.reply = lambda _: Reply(pieces())
    page = pages.open()
    page.fill("#prompt", "Text")
    page.press("#prompt", "Control+Enter")
    expect(tokens(page)).to_have_count(1)
    if way == "button":
        page.click("#generate")
    else:
        page.keyboard.press("Escape")
    finished(page)
    stopped.set()
    assert server.left.wait(PATIENCE)
    expect(output(page)).to_have_text("Text kept")
    expect(page.locator(".figures")).to_contain_text("stopped")
    expect(page.locator(".problem")).to_be_hidden()


# Tokens


def with_alternatives(_: object) -> Reply:
    top = {" cat": -0.2, " dog": -2.0, " <b>": -5.0}
    return Reply([token(" The", -0.01), token(" dog", -2.0, top), token(" sat", -12.0, reason="stop"), done(3)])


def test_pointing_at_a_token_shows_what_else_could_have_come(server: CompletionServer, pages: Pages) -> None:
    server.reply = with_alternatives
    page = pages.open()
    generate(page)
    card = page.locator(".card")
    expect(card).to_be_hidden()
    tokens(page).nth(1).hover()
    rows = [row.inner_text().split("\n") for row in card.locator(".choice").all()]
    assert rows == [['" cat"', "81.9 %"], ['" dog"', "13.5 %"], ['" <b>"', "0.67 %"]]
    expect(card.locator(".own")).to_contain_text("dog")
    card.hover()
    expect(card).to_be_visible()
    page.locator("h1").hover()
    expect(card).to_be_hidden()


def test_a_tokens_colour_follows_its_probability(server: CompletionServer, pages: Pages) -> None:
    logprobs = [-0.1, -1.0, -2.0, -4.0, -9.0]
    server.reply = lambda _: Reply([*(token(" w", each) for each in logprobs), done(5)])
    page = pages.open()
    generate(page)
    assert [each.get_attribute("class") for each in tokens(page).all()] == [f"token p{n}" for n in range(1, 6)]
    colour = "element => getComputedStyle(element).backgroundColor"
    assert len({each.evaluate(colour) for each in tokens(page).all()}) == 5
    page.uncheck("#tint")
    assert len({each.evaluate(colour) for each in tokens(page).all()}) == 1


def test_the_keyboard_alone_reaches_an_alternative_and_goes_on_from_it(server: CompletionServer, pages: Pages) -> None:
    server.reply = with_alternatives
    page = pages.open()
    generate(page, "It:")
    server.reply = lambda _: completed([" slept"])
    page.focus("#prompt")
    while page.evaluate("!document.activeElement.classList.contains('token')"):
        page.keyboard.press("Tab")
    expect(tokens(page).nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(tokens(page).nth(1)).to_have_accessible_name('" dog", 13.5 %')
    expect(page.locator(".card")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator(".choice").nth(0)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(tokens(page).nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    finished(page)
    assert server.requests[-1]["prompt"] == "It: The cat"
    expect(output(page)).to_have_text("It: The cat slept")


def test_escape_closes_the_card_and_leaves_the_focus_at_the_token(server: CompletionServer, pages: Pages) -> None:
    server.reply = with_alternatives
    page = pages.open()
    generate(page)
    tokens(page).nth(1).click()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator(".card")).to_be_hidden()
    expect(tokens(page).nth(1)).to_be_focused()


def test_only_one_token_has_a_place_in_the_order_of_tab(server: CompletionServer, pages: Pages) -> None:
    server.reply = with_alternatives
    page = pages.open()
    generate(page)
    tokens(page).nth(2).click()
    expect(page.locator(".made [tabindex]")).to_have_count(1)
    expect(page.locator(".made [role=button]")).to_have_count(1)


def test_a_tap_shows_the_card_and_a_tap_elsewhere_hides_it(server: CompletionServer, pages: Pages) -> None:
    server.reply = with_alternatives
    page = pages.open(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    generate(page)
    tokens(page).nth(1).tap()
    expect(page.locator(".card")).to_be_visible()
    page.locator(".given").tap()
    expect(page.locator(".card")).to_be_hidden()


def test_on_a_phone_the_card_never_covers_its_token(server: CompletionServer, pages: Pages) -> None:
    server.reply = lambda _: completed([" word"] * 200)
    page = pages.open(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    generate(page)
    scroll = "(element, block) => element.scrollIntoView({ block })"
    for block in ("start", "end"):
        tokens(page).nth(100).evaluate(scroll, block)
        tokens(page).nth(100).tap()
        word, card = tokens(page).nth(100).bounding_box(), page.locator(".card").bounding_box()
        assert word["y"] + word["height"] <= card["y"] or card["y"] + card["height"] <= word["y"]
        page.keyboard.press("Escape")


def test_tokens_that_only_together_make_a_character_are_one_piece(server: CompletionServer, pages: Pages) -> None:
    first = token("bytes:\\xf0\\x9f", -1.0, {"bytes:\\xf0\\x9f": -1.0, " cat": -2.0}, text="")
    last = token("bytes:\\xa6\\x84", -1.0, text="🦄")
    server.reply = lambda _: Reply([token(" A"), first, last, token(" b"), done(4)])
    page = pages.open()
    generate(page)
    expect(tokens(page)).to_have_text(["A", "🦄", "b"])
    tokens(page).nth(1).click()
    card = page.locator(".card")
    expect(card.locator(".parts .word")).to_have_text(["F0 9F", "A6 84"])
    expect(card.locator("button")).to_have_text(['" cat"13.5 %'])  # a part of a character is nothing to go on from


def test_a_character_that_was_cut_has_a_place_but_no_text(server: CompletionServer, pages: Pages) -> None:
    server.reply = lambda _: Reply([token(" A"), token("bytes:\\xf0", text="", reason="length"), done(2)])
    page = pages.open()
    generate(page, "It:")
    expect(tokens(page)).to_have_text(["A", "▯"])
    page.click(".continue")
    finished(page)
    assert server.requests[-1]["prompt"] == "It: A"


# What goes wrong


@pytest.mark.parametrize(
    ("reply", "sentence", "again"),
    [
        (refused(429, "64 do.", retry_after="3"), "The server is busy. Please try again in 3 seconds. 64 do.", True),
        (refused(429, "64 wait."), "The server is busy. Please try again later. 64 wait.", True),
        (refused(503, "It stops."), "The server takes no requests now. Please try again later. It stops.", True),
        (Reply([b"<h1>Bad gateway"], 502), "The server failed with status 502.", True),
        (refused(400, "top_k=-3 must be at least 0."), "top_k=-3 must be at least 0.", False),
        (Reply([b"{}"], 404), "The server refuses this with status 404.", True),
        (Reply([token(" a"), b"data: {\n\n"]),
         "The server sent something that is no JSON. What has come is kept. {", True),
        (Reply([token(" a"), event(json.loads(error("No memory.")))]),
         "The server broke off. What has come is kept. No memory.", True),
        (Reply([token(" a")]), "The connection ended before the text did. What has come is kept.", True),
    ],
)  # fmt: skip
def test_what_went_wrong_is_a_sentence(
    server: CompletionServer, pages: Pages, reply: Reply, sentence: str, again: bool
) -> None:
    server.reply = lambda _: reply
    page = pages.open()
    generate(page)
    problem = page.locator(".problem")
    expect(problem).to_be_visible()
    told = problem.locator(".sentence").inner_text() + " " + problem.locator(".detail").inner_text()
    assert told.strip() == sentence
    expect(problem.locator(".again")).to_be_visible(visible=again)


def test_trying_again_goes_on_from_what_came_before_the_connection_broke(
    server: CompletionServer, pages: Pages
) -> None:
    shown = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield token(" kept")
        shown.wait(PATIENCE)

    server.reply = lambda _: Reply(pieces(), whole=False)
    page = pages.open()
    page.fill("#prompt", "Text")
    page.click("#generate")
    expect(tokens(page)).to_have_count(1)
    shown.set()
    expect(page.locator(".problem")).to_contain_text("The connection ended")
    server.reply = lambda _: completed([" more"])
    page.click(".again")
    finished(page)
    expect(page.locator(".problem")).to_be_hidden()
    expect(output(page)).to_have_text("Text kept more")


def test_a_server_that_is_gone_is_told(pages: Pages) -> None:
    page = pages.open()
    page.route("**/v1/completions", lambda route: route.abort())
    generate(page)
    expect(page.locator(".sentence")).to_have_text("The server cannot be reached.")


def test_models_that_cannot_be_listed_can_be_asked_for_again(server: CompletionServer, pages: Pages) -> None:
    server.models = []
    page = pages.open(models=False)
    expect(page.locator("#notice p")).to_have_text("The server has no models.")
    server.models = ["small"]
    page.click("#reload")
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("select option")).to_have_text(["small"])


def test_a_server_that_names_fewer_alternatives_is_asked_for_fewer(server: CompletionServer, pages: Pages) -> None:
    too_many = refused(400, "logprobs is too many.", param="logprobs")
    server.reply = lambda request: too_many if request["logprobs"] > 2 else completed([" a"])
    page = pages.open()
    generate(page, "Once upon")
    page.click(".continue")
    finished(page)
    assert [request["logprobs"] for request in server.requests] == [5, 2, 2]
    expect(output(page)).to_have_text("Once upon a a")


def test_a_server_that_does_not_stream_is_good_enough(server: CompletionServer, pages: Pages) -> None:
    choice = {"text": " all", "logprobs": None, "finish_reason": "stop"}
    whole = json.dumps({"choices": [choice], "usage": {"completion_tokens": 1}}).encode()
    server.reply = lambda _: Reply([whole], media_type="application/json")
    page = pages.open()
    generate(page, "That is")
    expect(output(page)).to_have_text("That is all")


def test_a_key_is_asked_for_only_if_needed_and_kept_nowhere(server: CompletionServer, pages: Pages) -> None:
    server.key = "secret"
    page = pages.open(models=False)
    expect(page.locator("#key")).to_be_focused()
    page.fill("#key", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("label[for=key]")).to_have_text("The server does not take this API key.")
    page.fill("#key", "secret")
    page.keyboard.press("Enter")
    expect(page.locator("#access")).to_be_hidden()
    generate(page)
    expect(output(page)).to_contain_text("a text")
    page.click("#share")
    page.check("#with-prompt")
    assert "secret" not in page.input_value("#link") + page.content() + page.url
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.reload()
    expect(page.locator("#access")).to_be_visible()


def test_without_keys_no_key_is_asked_for(pages: Pages) -> None:
    expect(pages.open().locator("#access")).to_be_hidden()


# The link, and two lanes


def fragment(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.input_value("#link")).fragment, keep_blank_values=True)


def test_the_link_holds_changed_options_and_the_prompt_only_if_asked(pages: Pages) -> None:
    page = pages.open()
    page.fill("#prompt", "A secret plan & more")
    page.fill("[name=temperature]", "0.7")
    page.fill("[name=stop]", "\\n")
    page.click("#share")
    assert fragment(page) == {"model": ["small"], "temperature": ["0.7"], "stop": ["\\n"]}
    page.check("#with-prompt")
    assert fragment(page)["prompt"] == ["A secret plan & more"]
    page.click("#close-sharing")
    page.click("#share")
    assert "prompt" not in fragment(page)  # it is asked each time


def test_opening_a_link_restores_everything_and_runs_nothing(server: CompletionServer, pages: Pages) -> None:
    page = pages.open()
    page.click("#compare")
    page.locator("summary").nth(1).click()
    page.locator("[name=top_p]").nth(1).fill("0.5")
    page.fill("#prompt", "Hello & <b>\nyou")
    page.click("#share")
    page.check("#with-prompt")
    link = page.input_value("#link")
    other = pages.open("#" + urlsplit(link).fragment)
    assert other.input_value("#prompt") == "Hello & <b>\nyou"
    assert [select.input_value() for select in other.locator("select").all()] == ["small", "large"]
    assert [control.input_value() for control in other.locator("[name=top_p]").all()] == ["1", "0.5"]
    assert server.requests == []


def test_what_a_link_cannot_mean_here_is_left_out_and_told(pages: Pages) -> None:
    page = pages.open("#model=gone&temperature=hot&top_k=40&__proto__=1")
    expect(page.locator("#status")).to_have_text("3 of the link's options cannot be used here.")
    assert page.input_value("[name=top_k]") == "40"
    assert page.input_value("[name=temperature]") == "1"
    assert page.input_value("select") == "small"


def test_the_link_can_be_copied_where_browsers_give_no_clipboard(pages: Pages) -> None:
    page = pages.open()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.click("#share")
    page.click("#copy-link")
    expect(page.locator("#copy-link")).to_have_text("Copied")
    link = page.input_value("#link")
    page.click("#close-sharing")
    page.focus("#prompt")
    page.keyboard.press("Control+v")
    assert page.input_value("#prompt") == link


def test_copy_takes_the_prompt_and_the_text(pages: Pages) -> None:
    page = pages.open(permissions=["clipboard-read", "clipboard-write"])
    generate(page, "Once")
    page.click(".copy")
    expect(page.locator(".copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "Once a text"


def test_two_models_write_side_by_side_each_with_its_options(server: CompletionServer, pages: Pages) -> None:
    server.reply = lambda request: completed([f" by {request['model']}"])
    page = pages.open("#compare=1&temperature=0.5&b.temperature=1.5")
    page.locator("select").nth(1).select_option("large")
    generate(page, "Written")
    expect(output(page, 0)).to_have_text("Written by small")
    expect(output(page, 1)).to_have_text("Written by large")
    assert {(each["model"], each["temperature"]) for each in server.requests} == {("small", 0.5), ("large", 1.5)}
    expect(page.locator(".changed").nth(1)).to_have_text("temperature 1.5")
    page.click("#compare")
    expect(page.locator(".lane")).to_have_count(1)


# Any screen, any reader


@pytest.mark.parametrize("fragment", ["", "#compare=1"])
def test_nothing_is_wider_than_a_narrow_phone(server: CompletionServer, pages: Pages, fragment: str) -> None:
    server.models = ["a-model-with-a-name-that-is-longer-than-the-screen-is-wide"]
    server.reply = lambda _: completed([" word", "x" * 90, " " * 60, "\n", "🦄" * 40])
    page = pages.open(fragment, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    generate(page, "y" * 80)
    page.locator("summary").first.click()
    tokens(page).first.focus()
    expect(page.locator(".card").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_every_control_has_a_name(server: CompletionServer, pages: Pages) -> None:
    page = pages.open("#compare=1")
    for summary in page.locator("summary").all():
        summary.click()
    controls = page.locator("main :is(input, select, textarea, button):visible").all()
    assert len(controls) > 20
    for control in controls:
        expect(control).to_have_accessible_name(re.compile(r"\w"))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))


def test_on_paper_is_the_text_and_no_control(pages: Pages) -> None:
    page = pages.open()
    generate(page)
    page.emulate_media(media="print")
    expect(output(page)).to_be_visible()
    assert page.locator(":is(button, select, textarea, input):visible").count() == 0


def test_who_wants_no_motion_sees_none(pages: Pages) -> None:
    page = pages.open(reduced_motion="reduce")
    page.evaluate("document.querySelector('.output').classList.add('running')")
    moving = "getComputedStyle(document.querySelector('.made'), '::after').animationName"
    assert page.evaluate(moving) == "none"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) == "blink"


# The parts alone

PARSED = """async (pieces) => {
    const { EventParser } = await import("/stream.js");
    const parser = new EventParser();
    return pieces.flatMap((piece) => parser.feed(piece));
}"""
ALIGNED = """async (chunks) => {
    const { Aligner } = await import("/tokens.js");
    const aligner = new Aligner();
    const pieces = chunks.flatMap(([text, ...tokens]) => aligner.push(text, tokens.map((text) => ({ text }))));
    return [...pieces, ...aligner.end()].map(({ text, tokens }) => [text, ...tokens.map((token) => token.text)]);
}"""


def test_events_are_the_same_wherever_the_stream_is_cut(pages: Pages) -> None:
    page = pages.open()
    stream = (
        'data: {"a": 1}\n\n: comment\ndata: 2\r\ndata:3\r\n\r\nevent: x\ndata:  4\r\rdata\n\nid: 5\n\ndata: é🦄\n\n'
    )
    events = ['{"a": 1}', "2\n3", " 4", "é🦄"]
    for cut in range(len(stream)):
        assert page.evaluate(PARSED, [stream[:cut], stream[cut:]]) == events
    assert page.evaluate(PARSED, list(stream)) == events


def test_a_stream_may_be_cut_inside_of_a_character(server: CompletionServer, pages: Pages) -> None:
    body = token(" é🦄") + done(1)
    server.reply = lambda _: Reply([bytes([byte]) for byte in body])
    page = pages.open()
    generate(page, "It:")
    expect(output(page)).to_have_text("It: é🦄")


@pytest.mark.parametrize(
    ("chunks", "pieces"),
    [
        ([[" a", " a"], [" b", " b"]], [[" a", " a"], [" b", " b"]]),
        ([["", " a"], [" a b", " b"]], [[" a", " a"], [" b", " b"]]),  # held back for a stop string
        ([[" a", " a"], ["", " st"], ["", "op"]], [[" a", " a"]]),  # a stop string, which is no part of the text
        ([[" a", " a sto"]], [[" a", " a sto"]]),  # a token that a stop string begins in
        ([["", "\\xc3"], ["é", "\\xa9"], [" b", " b"]], [["é", "\\xc3", "\\xa9"], [" b", " b"]]),
        ([["", " \\xc3"], [" é", "\\xa9"]], [[" é", " \\xc3", "\\xa9"]]),
        ([["", "\ufffd"], ["é b", "\ufffd", " b"]], [["é", "\ufffd", "\ufffd"], [" b", " b"]]),
        ([["", "\\xc3"]], [["", "\\xc3"]]),  # cut by max_tokens
        ([[" no tokens"]], [[" no tokens"]]),
        ([["", "token_id:9"], [" a", " a"]], [["", "token_id:9"], [" a", " a"]]),  # a token without any text
        ([["all at", "all", " at"], [" once", " once"]], [["all", "all"], [" at", " at"], [" once", " once"]]),
    ],
)
def test_every_text_finds_its_tokens(pages: Pages, chunks: list[list[str]], pieces: list[list[str]]) -> None:
    assert pages.open().evaluate(ALIGNED, chunks) == pieces


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "later"),
        ("0", "in a second"),
        ("90", "in 90 seconds"),
        ("600", "in 10 minutes"),
        ("Thu, 01 Jan 1970 00:00:30 GMT", "in 30 seconds"),
        ("soon", "later"),
        ("99999999", "later"),
    ],
)
def test_how_long_to_wait_is_said_in_words(pages: Pages, header: str | None, words: str) -> None:
    script = 'async (header) => (await import("/stream.js")).waiting(header, 0)'
    assert pages.open().evaluate(script, header) == words


def test_what_cannot_be_seen_in_a_token_is_written_out(pages: Pages) -> None:
    script = 'async (token) => (await import("/tokens.js")).shown(token)'
    page = pages.open()
    shown = {
        token: page.evaluate(script, token) for token in (' "a"', "\n", "\u200b\u202e", "bytes:\\xe2\\x80", " \\xe2")
    }
    assert shown == {
        ' "a"': '" \\"a\\""',
        "\n": '"\\n"',
        "\u200b\u202e": '"\\u200b\\u202e"',
        "bytes:\\xe2\\x80": "E2 80",
        " \\xe2": '" \\xe2"',
    }
