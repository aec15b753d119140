"""Where the API key comes from: the environment or a secret block, and from nowhere else."""

from __future__ import annotations

import pytest
from prefect.blocks.system import Secret

from models.errors import InputError
from tasks.parameters import ServiceParameters, SourceParameters
from tasks.secrets import api_key

KEY = "0123456789abcdef0123456789abcdef"


def source(**service: str) -> SourceParameters:
    return SourceParameters(source="mp", service=ServiceParameters(**service))


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", KEY)
    assert api_key(source()) == KEY
    assert api_key(SourceParameters(source="oqmd")) is None
    monkeypatch.delenv("MP_API_KEY")
    assert api_key(source()) is None


def test_a_secret_block(prefect_server: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MP_API_KEY", raising=False)
    Secret(value=KEY).save("materials-project", overwrite=True)
    assert api_key(source(key_block="materials-project")) == KEY
    with pytest.raises(InputError, match="no Prefect secret block 'absent'; make one") as caught:
        api_key(source(key_block="absent"))
    assert KEY not in str(caught.value)
