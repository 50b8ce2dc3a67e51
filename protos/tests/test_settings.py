"""Files that a person writes: read whole, or refused with file, key and remedy."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from protos import settings


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    port: Annotated[int, Meta(ge=1, le=65535, description="a TCP port, 1 to 65535")]
    mode: Annotated[Literal["a", "b"], Meta(description='"a" or "b"')] = "a"


class Outer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, description="a name")]
    inner: Annotated[Inner | None, Meta(description="a table [inner]")] = None
    many: Annotated[tuple[Inner, ...], Meta(description="tables [[many]]")] = ()


def test_a_good_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "good.toml"
    file.write_text('name = "x"\n[[many]]\nport = 502\nmode = "b"\n')
    assert settings.read(file, Outer) == Outer(name="x", many=(Inner(port=502, mode="b"),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("name = ", ": is not TOML: ", id="syntax"),
        pytest.param("", ": $.name: is missing; give a name", id="missing"),
        pytest.param('name = "x"\nnaem = 1', ": $.naem: unknown key; did you mean name?", id="typo"),
        pytest.param('name = "x"\nframe = 1', ": $.frame: unknown key; known: name", id="another word"),
        pytest.param('name = "x"\nzzz = 1', ": $.zzz: unknown key; known: name, inner, many", id="unknown"),
        pytest.param(
            'name = "x"\n[inner]\nprot = 1',
            ": $.inner.prot: unknown key; did you mean port?",
            id="in a table",
        ),
        pytest.param('name = "x"\n[inner]\nport = 0', "$.inner.port: expected `int` >= 1; give a TCP port", id="range"),
        pytest.param('name = "x"\n[[many]]\nport = 1\nmode = "c"', "].mode: invalid enum value", id="in a list"),
        pytest.param("name = 5", "$.name: expected `str`, got `int`; give a name", id="type"),
    ],
)
def test_a_bad_file_is_refused_with_file_key_and_remedy(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(settings.SettingsError) as caught:
        settings.read(file, Outer)
    assert str(caught.value).startswith(str(file))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(settings.SettingsError, match="No such file"):
        settings.read(tmp_path / "none.toml", Outer)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(settings.SettingsError, match="UTF-8"):
        settings.read(tmp_path / "latin.toml", Outer)
