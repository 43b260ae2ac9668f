"""Certificates and proxies, as the environment names them."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopback_hub import Answer, Hub, running_hub
from neort.errors import ConfigError, HubError
from neort.pulling.environment import hub_endpoint, hub_token, timeouts
from published import bundle_files
from pulls import NAME, Puller

CERTIFICATE = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1, which nobody has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, to make a certificate")
    file = tmp_path_factory.mktemp("tls") / "own.pem"
    subject = ["-subj", "/CN=own", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*CERTIFICATE, *subject, "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


@pytest.fixture(scope="module")
def encrypted(certificate: Path) -> Iterator[Hub]:
    """A web server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with running_hub(context) as hub:
        hub.pages = {f"/a/{name}": content for name, content in bundle_files().items()}
        yield hub


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_encrypted_folder_is_pulled_where_its_certificate_is_trusted(
    variable: str, encrypted: Hub, certificate: Path, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    told = puller.refusal(f"{encrypted.web}/a", error=HubError)
    assert "has no certificate that is trusted here (self" in told
    assert "set SSL_CERT_FILE" in told
    monkeypatch.setenv(variable, str(certificate))
    assert puller(f"{encrypted.web}/a").path.is_dir()


def test_what_is_encrypted_stays_encrypted(
    encrypted: Hub, certificate: Path, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(encrypted, "fault", lambda *_: Answer(302, {"Location": f"{encrypted.cdn}/x"}))
    told = puller.refusal(f"{encrypted.web}/a", error=HubError)
    assert "redirects to http://127.0.0.1, which is not encrypted" in told


def test_certificates_that_cannot_be_read_are_told(
    encrypted: Hub, puller: Puller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    assert "cannot be read" in puller.refusal(f"{encrypted.web}/a", error=ConfigError)


def test_a_proxy_is_asked_where_the_environment_names_one(
    hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.test")
    monkeypatch.setenv("http_proxy", hub.endpoint)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert puller().path.is_dir()
    assert {each.headers["host"] for each in hub.requests if each.server == "hub"} == {"hub.test"}
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "hub.test cannot be reached through the proxy that HTTPS_PROXY or HTTP_PROXY names" in puller.refusal()


def test_an_address_behind_a_path_is_a_hub_s_too(hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.endpoint}/mirror/")
    monkeypatch.setattr(hub, "fault", lambda *_: Answer(404))
    assert "answers HTTP 404" in puller.refusal()
    assert hub.asked("GET") == [f"/mirror/api/models/{NAME}/revision/main"]


@pytest.mark.parametrize(
    ("variable", "value", "ask"),
    [
        ("HF_ENDPOINT", "huggingface.co", hub_endpoint),
        ("HF_ENDPOINT", "file:///x", hub_endpoint),
        ("HF_ENDPOINT", "https://user@hub.test", hub_endpoint),
        ("HF_ENDPOINT", "https://hub.test:abc", hub_endpoint),
        ("HF_ENDPOINT", "https://hub.test:99999/mirror", hub_endpoint),
        ("HF_ENDPOINT", "https://[::1", hub_endpoint),
        ("HF_HUB_ETAG_TIMEOUT", "soon", timeouts),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "0", timeouts),
        ("HF_TOKEN", "with blanks", hub_token),
        ("HF_TOKEN", "tökén", hub_token),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(
    variable: str, value: str, ask: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        ask()
