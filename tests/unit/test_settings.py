"""Settings: valid as they stand, refused by name when wrong, and silent about secrets."""

from __future__ import annotations

import traceback
from typing import Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, SecretStr

from scoring.errors import FatalError
from workers.places import broker_url, database_url, needs_embedded
from workers.settings import Settings, SettingsError, environment_names, load_settings

SECRET = "hunter2-never-shown"
WRONG = {
    "BROKER__NUM_SHARDS": "0",
    "ENGINE__DEVICE": "abacus",
    "ENGINE__MAX_BATCH_TOKENS": "many",
    "ENGINE__NUM_THREADS": "1.5",
    "WORKER__MAX_IDS_PER_MESSAGE": "513",
    "WORKER__LEASE_S": "0.5",
    "WORKER__SWEEP_INTERVAL_S": "nan",
    "WORKER__BACKOFF_S": "-1",
    "WORKER__SOFT_STOP_S": "inf",
    "INTAKE__MAX_TEXT_CHARS": "1e3 chars",
    "TELEMETRY__LOG_LEVEL": "loud",
    "TELEMETRY__METRICS_ADDRESS": "here:70000",
}


#: Values of settings that have a form of their own.
FORMED = {
    "metrics_address": "127.0.0.1:9464",
    "begins_at": "02:30:00",
    "time_zone": "Europe/Berlin",
}


def another_value(annotation: object, default: object) -> str:
    """A valid value that is not the default."""
    if get_origin(annotation) is Literal:
        return next(one for one in get_args(annotation) if one != default)
    if annotation is bool:
        return str(not default)
    if default is None and {int, float} & set(get_args(annotation)):
        return "100" if int in get_args(annotation) else "100.0"
    if annotation is float and 0 < default < 1:
        return str(default / 2)  # a share stays below 1
    if annotation in (int, float):
        # 512 ids in a message are the most, and the default.
        return str(default - 1 if default == 512 else default + 1)
    return "e15e" * 16


def sections() -> dict[str, type[BaseModel]]:
    return {name: field.annotation for name, field in Settings.model_fields.items()}


def test_every_default_keeps_to_its_own_rule():
    for name, section in sections().items():
        # Defaults are not validated when they are used: given as input, they are.
        defaults = {key: field.default for key, field in section.model_fields.items()}
        assert section.model_validate(defaults) == getattr(load_settings(), name)


def test_every_setting_has_a_name_and_a_meaning():
    named = environment_names()
    assert len(named) == sum(len(section.model_fields) for section in sections().values())
    assert all(meaning for meaning in named.values())
    assert named["SCOREFOLD_WORKER__LEASE_S"] == "a claim's life without renewal"


@pytest.mark.parametrize("name", environment_names())
def test_every_name_reaches_its_setting(monkeypatch, name):
    section, field = name.removeprefix("SCOREFOLD_").lower().split("__")
    default = getattr(getattr(Settings(), section), field)
    given = FORMED.get(field) or another_value(sections()[section].model_fields[field].annotation, default)
    monkeypatch.setenv(name, given)
    value = getattr(getattr(load_settings(), section), field)
    assert value != default
    assert str(value.get_secret_value() if isinstance(value, SecretStr) else value) == given


@pytest.mark.parametrize(
    "name",
    [
        "SCOREFOLD_WORKER__LEASE",
        "SCOREFOLD_LEASE_S",
        "SCOREFOLD_DATABASE",
        "SCOREFOLD_",
        "scorefold_worker__x",
    ],
)
def test_an_unknown_name_is_refused_by_its_name(monkeypatch, name):
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert name in str(refused.value)
    assert "scorefold settings" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_names_of_other_programs_and_of_the_test_suite_are_left_alone(monkeypatch):
    monkeypatch.setenv("SCOREFOLD_TEST_DATABASE_URL", "postgresql://elsewhere")
    monkeypatch.setenv("SCOREFOLDED", "1")
    assert load_settings() == Settings()


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_wrong_value_is_refused_in_one_line_that_names_the_setting(monkeypatch, name, value):
    monkeypatch.setenv(f"SCOREFOLD_{name}", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    message = str(refused.value)
    assert message.startswith(f"SCOREFOLD_{name}: ")
    assert "\n" not in message


def test_all_wrong_values_are_told_at_once(monkeypatch):
    monkeypatch.setenv("SCOREFOLD_WORKER__LEASE_S", "soon")
    monkeypatch.setenv("SCOREFOLD_ENGINE__DEVICE", "abacus")
    with pytest.raises(SettingsError, match=r"(?=.*WORKER__LEASE_S: )(?=.*ENGINE__DEVICE: )"):
        load_settings()


def test_an_empty_value_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("SCOREFOLD_DATABASE__URL", "")
    monkeypatch.setenv("SCOREFOLD_WORKER__LEASE_S", "")
    assert load_settings() == Settings()


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().worker.lease_s = 1.0


def test_a_settings_error_ends_the_process_with_its_own_code():
    assert issubclass(SettingsError, FatalError)
    assert SettingsError.exit_code == 78


def test_secrets_show_in_no_form_of_the_settings(monkeypatch):
    monkeypatch.setenv("SCOREFOLD_DATABASE__URL", f"postgresql://me:{SECRET}@db/x")
    monkeypatch.setenv("SCOREFOLD_BROKER__URL", f"redis://:{SECRET}@broker/0")
    settings = load_settings()
    shown = (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump()))
    assert all(SECRET not in form for form in shown)
    assert SECRET in database_url(settings)
    assert SECRET in broker_url(settings)
    assert not needs_embedded(settings)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_database_is_spoken_to_by_our_driver(monkeypatch, scheme):
    monkeypatch.setenv("SCOREFOLD_DATABASE__URL", f"{scheme}://me:p%40ss@db:5433/x?sslmode=require")
    assert database_url(load_settings()) == "postgresql+psycopg://me:p%40ss@db:5433/x?sslmode=require"


@pytest.mark.parametrize(
    ("name", "url", "find"),
    [
        ("DATABASE", f"me:{SECRET}@db/x", database_url),
        ("DATABASE", f"mysql://me:{SECRET}@db/x", database_url),
        ("DATABASE", f"postgresql://me:{SECRET}@db:port/x", database_url),
        ("DATABASE", f"postgresql://me:{SECRET}/x", database_url),
        ("BROKER", f"me:{SECRET}@broker/0", broker_url),
        ("BROKER", f"redis://me:{SECRET}/0", broker_url),
        ("BROKER", f"amqp://me:{SECRET}@broker/0", broker_url),
        ("BROKER", f"redis://me:{SECRET}@broker:port/0", broker_url),
    ],
)
def test_a_url_that_is_none_is_refused_without_being_shown(monkeypatch, name, url, find):
    monkeypatch.setenv(f"SCOREFOLD_{name}__URL", url)
    with pytest.raises(SettingsError) as refused:
        find(load_settings())
    assert f"SCOREFOLD_{name}__URL" in str(refused.value)
    assert SECRET not in str(refused.value)
    assert SECRET not in "".join(traceback.format_exception(refused.value))
