"""Servers that lie, or that refuse: what is said, and that nothing of it is ever visible."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from loopback_hub import Answer, Hub, Repository
from neort.errors import BundleError, HubError
from published import WEIGHTS, bundle_files, edited, facts_of, in_folders
from pulls import MAIN, NAME, Puller, is_whole, on

SHA256 = facts_of(WEIGHTS)["sha256"]


# Servers that lie


def lies(hub: Hub) -> dict[str, tuple[Any, str]]:
    """Faults by their names, with what is said of each."""
    page = Answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Log in</html>")
    link = {"X-Repo-Commit": MAIN, "X-Linked-Size": str(len(WEIGHTS)), "X-Linked-Etag": f'"{SHA256}"'}

    def redirect(place: str, **headers: str) -> Answer:
        return Answer(302, {"Location": place, **link, **headers})

    def weights(answer: Answer) -> Any:
        return on("hub", "weights.data", answer)

    def body(content: bytes, **facts: Any) -> Any:
        return on("cdn", SHA256, Answer(200, body=content, **facts))

    elsewhere = f"{hub.cdn}/{NAME}/{SHA256}"
    other_part = Answer(206, {"Content-Range": f"bytes 5-{len(WEIGHTS) - 1}/{len(WEIGHTS)}"}, WEIGHTS[5:])
    return {
        "other bytes": (body(WEIGHTS[:-1] + b"x"), "it was damaged or changed on the way, and nothing of it is kept"),
        "fewer bytes": (body(WEIGHTS[:-1]), "weights.data of owner/tiny has 1,048,575 bytes at"),
        "more bytes": (body(WEIGHTS + b"x"), "the manifest says 1,048,576"),
        "bytes without end": (body(WEIGHTS + b"x", length=None), "has more bytes at"),
        "fewer than announced": (body(WEIGHTS[:-1], length=len(WEIGHTS)), "broke off"),
        "no bytes": (body(b"", length=None), "broke off"),
        "another part": (on("cdn", SHA256, other_part), "sends another part of int8/weights.data"),
        "a page for weights": (on("cdn", SHA256, page), "answers with a page for people in the place of"),
        "a page for a manifest": (on("hub", "int8/manifest.json", page), "cannot be read as JSON"),
        "a page for a hub": (on("hub", "/api/", page), "answers with a page for people; correct HF_ENDPOINT"),
        "no JSON": (on("hub", "/api/", Answer(200, body=b"[" * 10_000)), "something else than a hub does"),
        "no commit": (on("hub", "/api/", Answer(200, body=b'{"sha": "../../x", "siblings": []}')), "else than a hub"),
        "a listing without end": (
            on("hub", "/api/", Answer(200, body=b" " * ((16 << 20) + 1))),
            "more than 16,777,216",
        ),
        "another commit": (
            on("hub", "resolve-cache", Answer(200, {"X-Repo-Commit": "../../x"}, b"{}")),
            "hands out another commit's int8/manifest.json",
        ),
        "another hash": (
            weights(redirect(elsewhere, **{"X-Linked-Etag": f'"{"0" * 64}"'})),
            "is not what the manifest",
        ),
        "another size": (weights(redirect(elsewhere, **{"X-Linked-Size": "5"})), "has 5 bytes with the hash"),
        "a circle": (on("cdn", SHA256, Answer(302, {"Location": elsewhere})), "redirects more than 10 times"),
        "a file": (weights(redirect("file:///etc/passwd")), "redirects to file://, which is no place on the web"),
        "another protocol": (weights(redirect("ftp://127.0.0.1/x")), "redirects to ftp://127.0.0.1"),
        "a user's name": (weights(redirect(f"http://me:secret@127.0.0.1:{hub.cdn.rpartition(':')[2]}/")), "no place"),
        "a place that has nothing": (weights(redirect(f"{hub.cdn}x/y/z")), "no place on the web"),
        "a forbidden place": (on("cdn", SHA256, Answer(403)), "answers HTTP 403; the same command goes on"),
        "no port": (weights(redirect("http://127.0.0.1:x/")), "no place on the web"),
        "nowhere": (weights(Answer(302, link)), "redirects without saying where to"),
        "no HTTP": (on("cdn", SHA256, Answer(302, {"Location": "http://127.0.0.1:9/"})), "cannot be reached"),
    }


LIES = [*lies(SimpleNamespace(cdn=":1"))]  # type: ignore[arg-type]


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_is_found_out(lie: str, hub: Hub, puller: Puller) -> None:
    hub.fault, told = lies(hub)[lie]
    said = puller.refusal()
    assert told in said
    assert "secret" not in said
    assert not puller.cached.ref(None).exists()
    hub.fault = lambda *_: None
    assert is_whole(puller().path)  # nothing that a lie has left is in the way


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/x", "a\\b", "con", "LPT1.txt", "C:x", "manifest.json", "weights.data.", "-x", ".x", "ü"]
)
def test_a_manifest_with_a_name_that_is_no_plain_one_is_refused(name: str, hub: Hub, puller: Puller) -> None:
    files = bundle_files()
    listed = {"weights.data": facts_of(WEIGHTS), name: facts_of(b"x")}
    hub.repositories[NAME] = Repository(in_folders(int8={name: b"x", **edited(files, files=listed)}))
    said = puller.refusal(error=BundleError)
    assert "lists the file" in said or "names must be plain" in said
    assert hub.asked("GET", server="cdn") == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"files": {"weights.data": {"bytes": 1 << 62, "sha256": SHA256}}}, "nothing was fetched"),
        ({"files": {"weights.data": {"bytes": -1, "sha256": SHA256}}}, "with bytes and sha256"),
        ({"files": {f"f{i}": facts_of(b"x") for i in range(101)} | {"weights.data": facts_of(WEIGHTS)}}, "102 files"),
        ({"files": {"config.json": facts_of(b"{}")}}, "lists no weights.data"),
        ({"model": {}}, "lacks model.vocab_size"),
        ({"recipe": {"quantization": "int4"}}, "must be equal"),
    ],
    ids=["giant", "negative", "many files", "no weights", "no model", "two formats"],
)
def test_a_manifest_that_cannot_be_right_is_refused_before_anything_comes(
    changes: dict[str, Any], told: str, hub: Hub, puller: Puller
) -> None:
    hub.repositories[NAME] = Repository(in_folders(int8=edited(bundle_files(), **changes)))
    assert told in puller.refusal()
    assert hub.asked("GET", server="cdn") == []


def test_a_manifest_that_was_changed_is_told_by_its_checksum(hub: Hub, puller: Puller) -> None:
    files = bundle_files()
    hub.repositories[NAME] = Repository(in_folders(int8={**files, "manifest.json": files["manifest.json"] + b" "}))
    assert is_whole(puller().path)
    changed = (
        files["manifest.json"].replace(b'"vocab_size"', b'"vocab_size" ').replace(b'"num_layers": ', b'"num_layers": 1')
    )
    hub.repositories[NAME] = Repository(in_folders(int8={**files, "manifest.json": changed}), {"main": "f" * 40})
    assert "it is damaged or was changed" in puller.refusal(error=BundleError)


# What a hub refuses


def refusals() -> dict[str, tuple[Answer, str]]:
    gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
    return {
        "gated": (Answer(403, gated), "owner/tiny is gated: accept its terms at http://127.0.0.1"),
        "missing": (
            Answer(401, {"X-Error-Code": "RepoNotFound"}),
            "shows no repository owner/tiny; correct the name, or",
        ),
        "private": (Answer(401), "log in with `hf auth login`, or set HF_TOKEN if it is private"),
        "forbidden": (Answer(403, {"X-Error-Message": "no\nway"}), "forbids owner/tiny to the token in use"),
        "gone": (Answer(410), "answers HTTP 410 ('no reason given'); try again later"),
        "no revision": (Answer(404, {"X-Error-Code": "RevisionNotFound"}), "has no branch, tag or commit None; see"),
        "too many": (
            Answer(429, {"Retry-After": "1000"}),
            "no more requests for now (HTTP 429); try again in 1000 seconds",
        ),
        "out of order": (Answer(503), "is out of order (HTTP 503); try again later"),
    }


@pytest.mark.parametrize("kind", refusals())
def test_what_the_hub_refuses_is_told_with_the_remedy(kind: str, hub: Hub, puller: Puller) -> None:
    answer, told = refusals()[kind]
    hub.fault = on("hub", "/api/", answer)
    assert told in puller.refusal(error=HubError)
    assert puller.waited == ([1, 2, 4] if kind == "out of order" else [])


def test_a_token_that_is_not_accepted_is_told_as_such(
    hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "bad")
    assert "does not accept the token in use (HTTP 401); renew it with `hf auth login`" in puller.refusal(
        error=HubError
    )
    monkeypatch.setenv("HF_TOKEN", "good")
    assert "set HF_TOKEN to a token that may read it if it is private" in puller.refusal("owner/none", error=HubError)


@pytest.mark.parametrize(
    ("answer", "waited"),
    [
        (Answer(429, {"Retry-After": "7"}), 7),
        (Answer(429, {"RateLimit": '"api";r=0;t=55'}), 55),
        (Answer(503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), 1),
        (Answer(502), 1),
    ],
)
def test_a_busy_server_is_asked_again_when_it_says(answer: Answer, waited: float, hub: Hub, puller: Puller) -> None:
    hub.fault = on("hub", "/api/", answer, None)
    assert is_whole(puller().path)
    assert puller.waited == [waited]


def test_a_hub_that_does_not_answer_is_told_with_the_limit(
    hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fault = on("hub", "/api/", Answer(200, body=b"{}", cut=0, until=(released := threading.Event())))
    monkeypatch.setattr("neort.pulling.delivery.timeouts", lambda: (0.05, 0.05))
    assert "did not answer in time; HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT allow more" in puller.refusal()
    released.set()
