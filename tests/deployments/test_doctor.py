from __future__ import annotations

from pathlib import Path

import pytest

from deployments import doctor
from deployments.doctor import Finding, check_server, check_store, check_versions, examine, read_pins
from deployments.server import Server, server_home


def texts(findings: list[Finding]) -> str:
    return "\n".join(finding.text for finding in findings)


def test_every_subject_is_looked_at_and_a_line_each(tmp_path: Path) -> None:
    findings = examine(str(tmp_path))
    subjects = [finding.subject for finding in findings]
    assert {
        "python",
        "packages",
        "versions",
        "torch",
        "gpu",
        "fast mode",
        "cores",
        "memory",
        "store",
        "prefect",
    } <= set(subjects)
    assert "extras" in subjects
    assert all("\n" not in finding.text for finding in findings)
    assert not [finding for finding in findings if finding.status == "problem"]


@pytest.mark.parametrize(
    ("kind", "amx", "status", "text"),
    [
        ("bf16", True, "ok", "sieves in bf16"),
        ("int8", True, "ok", "sieves in int8, then in bf16"),
        ("int8", False, "ok", "sieves in int8"),
        (None, False, "note", "in fp32"),
    ],
)
def test_what_the_fast_mode_sieves_in(
    monkeypatch: pytest.MonkeyPatch, kind: str | None, amx: bool, status: str, text: str
) -> None:
    monkeypatch.setattr("models.sieve.best_sieve", lambda: kind)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    (finding,) = doctor.check_fast_mode()
    assert finding.status == status
    assert finding.text.endswith(text)


def test_other_versions_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "constraints.txt").write_text("# a comment\nnumpy==0.1\nno-such-package==1.0\n")
    monkeypatch.setattr(doctor, "home", lambda: tmp_path)
    (finding,) = check_versions()
    assert finding.status == "note"
    assert "instead of 0.1" in finding.text
    assert "no-such-package" not in finding.text
    assert read_pins(tmp_path / "constraints.txt") == {"numpy": "0.1", "no-such-package": "1.0"}


def test_folder_of_the_same_name_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "holds models/ of its own" in texts(doctor.check_packages())


def test_store_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    (finding,) = check_store(str(tmp_path / "not" / "there"))
    assert finding.status == "problem"
    assert "ELEMSCREEN_STORE" in finding.text
    assert check_store("s3://bucket/store")[0].status == "ok"


def test_server_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "configured_api_url", lambda: None)
    assert "no server runs" in texts(check_server(str(tmp_path)))
    home = server_home(tmp_path)
    home.mkdir()
    (home / "server.json").write_text(
        '{"api_url": "http://127.0.0.1:1/api", "pid": 1, "created": 0, "prefect_version": "3"}'
    )
    assert "ended without a word" in texts(check_server(str(tmp_path)))
    monkeypatch.setattr(doctor, "configured_api_url", lambda: "http://127.0.0.1:1/api")
    assert check_server(str(tmp_path))[0].status == "problem"


def test_running_server_is_found(prefect_server: Server, server_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_server(str(server_store))[0].text == f"{prefect_server.api_url} answers"
    monkeypatch.setattr(doctor, "configured_api_url", lambda: None)
    assert str(prefect_server.pid) in check_server(str(server_store))[0].text
