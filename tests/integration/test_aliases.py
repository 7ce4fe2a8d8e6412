"""Aliases on a real Postgres: moved together, told in the audit, put back exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import aliases, migrate, registry
from db.session import make_engine
from tests.rows import item, scorer, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = make_engine(database_url)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def add(connection: Connection, version: str, item_id: str = "item-a") -> int:
    return registry.register_scorer(connection, scorer(item_id, version))


def now(connection: Connection, item_id: str = "item-a") -> dict[str, int]:
    return aliases.aliases_of(connection, [item_id])[item_id]


def promote(connection: Connection, *scorer_ids: int) -> int:
    return aliases.promote(connection, scorer_ids, actor="ada", reason="better")


def back(connection: Connection, action: str = aliases.PROMOTE) -> int:
    return aliases.rollback(connection, ["item-a"], action=action, actor="ada", reason="worse")


def test_the_schema_is_what_the_models_say(database_url: str) -> None:
    migrate.check(database_url)


def test_migrations_go_down_and_up_again(database_url: str) -> None:
    from alembic import command

    engine = make_engine(database_url)
    with engine.begin() as opened:
        registry.save_items(opened, [item()])
        opened.execute(
            text(
                "INSERT INTO model.training_run (item_id, trigger, state)"
                " VALUES ('item-a', 'agreement', 'done')"
            )
        )
    with engine.connect() as opened:
        command.downgrade(migrate._config(opened), "0002")
        opened.commit()
        assert opened.execute(text("SELECT trigger FROM model.training_run")).scalar_one() == "drift"
    engine.dispose()
    migrate.upgrade(database_url)
    migrate.check(database_url)


def test_a_changed_item_begins_an_epoch_that_workers_follow(connection: Connection) -> None:
    serve(connection, "item-a")
    before = registry.epoch(connection)
    (known,) = registry.load_items(connection).values()
    registry.save_items(connection, [known])
    assert registry.epoch(connection) == before
    registry.save_items(connection, [replace(known, language="de")])
    assert registry.epoch(connection) == before + 1


def test_promotion_and_rollback_restore_exactly(connection: Connection) -> None:
    first = serve(connection, "item-a")["item-a"]
    assert now(connection) == {"champion": first}
    second, third = add(connection, "2"), add(connection, "3")
    aliases.set_shadow(connection, second, actor="ada", reason="try")
    with_shadow = now(connection)
    assert with_shadow == {"champion": first, "shadow": second}
    promote(connection, second)
    after_second = now(connection)
    assert after_second == {"champion": second, "previous": first}
    promote(connection, third)
    assert now(connection) == {"champion": third, "previous": second}
    back(connection)
    assert now(connection) == after_second
    back(connection)
    assert now(connection) == with_shadow
    back(connection, aliases.SHADOW)
    assert now(connection) == {"champion": first}
    back(connection)
    assert now(connection) == {}
    with pytest.raises(aliases.AliasError, match="item item-a: no promote is left"):
        back(connection)


def test_a_shadow_that_came_later_survives_a_rollback(connection: Connection) -> None:
    first = serve(connection, "item-a")["item-a"]
    second, third = add(connection, "2"), add(connection, "3")
    promote(connection, second)
    aliases.set_shadow(connection, third, actor="ada", reason="try")
    back(connection)
    assert now(connection) == {"champion": first, "shadow": third}


def test_a_move_that_another_undid_by_hand_is_not_undone_twice(connection: Connection) -> None:
    serve(connection, "item-a")
    second = add(connection, "2")
    aliases.set_shadow(connection, second, actor="ada", reason="try")
    promote(connection, second)
    with pytest.raises(aliases.AliasError, match="have moved since its last shadow"):
        back(connection, aliases.SHADOW)


def test_every_move_says_who_when_why_before_and_after(connection: Connection) -> None:
    first = serve(connection, "item-a")["item-a"]
    second = add(connection, "2")
    epoch = promote(connection, second)
    promote(connection, second)
    newest, oldest = aliases.moves(connection, "item-a")
    assert (newest["actor"], newest["action"]) == ("ada", "promote")
    assert newest["detail"] == {
        "reason": "better",
        "epoch": epoch,
        "before": {"champion": first},
        "after": {"champion": second, "previous": first},
    }
    assert oldest["detail"]["before"] == {}


def test_several_items_move_in_one_epoch_and_each_goes_back_alone(connection: Connection) -> None:
    before = serve(connection, "item-a", "item-b")
    newer = add(connection, "2"), add(connection, "2", "item-b")
    epoch = promote(connection, *newer)
    assert registry.epoch(connection) == epoch
    back(connection)
    assert now(connection)["champion"] == before["item-a"]
    assert now(connection, "item-b")["champion"] == newer[1]


def test_what_cannot_be_promoted_moves_nothing(connection: Connection) -> None:
    first = serve(connection, "item-a")["item-a"]
    second, third = add(connection, "2"), add(connection, "3")
    for wrong, message in (((second, third), "two of these"), ((second, 10**6), "scorer 1000000")):
        with pytest.raises(aliases.AliasError, match=message):
            promote(connection, *wrong)
    assert now(connection) == {"champion": first}


def test_the_champion_cannot_be_its_own_shadow(connection: Connection) -> None:
    first = serve(connection, "item-a")["item-a"]
    aliases.set_shadow(connection, first, actor="ada", reason="by mistake")
    assert now(connection) == {"champion": first}
