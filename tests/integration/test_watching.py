"""A watched folder on a real Postgres: whole files only, each once, none lost by a fault of another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from importlib.util import find_spec
from typing import TYPE_CHECKING

import fsspec
import pytest
from sqlalchemy import text

from db.session import make_engine
from scoring.errors import DatabaseUnavailableError, InvalidInputError, LocalFaultError, StoreUnavailableError
from tests import rows
from workers.cli.watch import _until_told_to_stop
from workers.inbox import open_inbox
from workers.settings import IntakeSettings
from workers.watching import Watch, WatchPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

HEADER = "response_id,item_id,text\n"


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        rows.serve(connection, "ice")
    yield engine
    engine.dispose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def put(folder: Path, name: str, content: str, *, age_s: float = 60.0) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    moment = time.time() - age_s
    os.utime(path, (moment, moment))
    return path


def watch(database: Engine, where: object, **policy: object) -> Watch:
    inbox = open_inbox(str(where))
    return Watch(database, inbox, WatchPolicy(source="lms", limits=IntakeSettings(), **policy))


def num_submissions(database: Engine) -> int:
    with database.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM ingest.submission")).scalar_one())


def test_a_file_is_taken_once_by_this_watch_and_by_the_next(database: Engine, folder: Path) -> None:
    put(folder, "b.csv", HEADER + "r2,ice,b\n", age_s=60)
    put(folder, "a.csv", HEADER + "r3,ice,c\n", age_s=50)
    looking = watch(database, folder)
    assert [report.num_new for report in looking.look()] == [1, 1]
    assert looking.look() == []
    put(folder, "copy.csv", HEADER + "r2,ice,b\n")
    assert watch(database, folder).look() == []
    put(folder, "b.csv", HEADER + "r2,ice,b\nr4,ice,d\n")
    (again,) = looking.look()
    assert (again.num_new, again.num_repeated) == (1, 1)
    with database.connect() as connection:
        names = (
            connection.execute(text("SELECT file_name FROM ingest.batch ORDER BY batch_id")).scalars().all()
        )
    assert names == ["b.csv", "a.csv", "b.csv"]


def test_what_is_not_whole_is_left_until_it_is(database: Engine, folder: Path) -> None:
    put(folder, "growing.csv", HEADER + "r1,ice,a\n", age_s=0)
    put(folder, "empty.csv", "")
    for name in (".hidden.csv", "night.csv.part", "night.csv~", "upload.tmp"):
        put(folder, name, HEADER + "r9,ice,x\n")
    (folder / "deeper").mkdir()
    put(folder / "deeper", "x.csv", HEADER + "r9,ice,x\n")
    secret = put(folder.parent, "secret.csv", HEADER + "r9,ice,x\n")
    (folder / "link.csv").symlink_to(secret)
    looking = watch(database, folder)
    assert looking.look() == []
    put(folder, "growing.csv", HEADER + "r1,ice,a\nr2,ice,b\n")
    assert [report.num_new for report in looking.look()] == [2]
    assert num_submissions(database) == 2


def test_a_broken_file_does_not_hold_up_the_others_and_is_tried_again_when_mended(
    database: Engine, folder: Path
) -> None:
    put(folder, "broken.csv", "no,header\n", age_s=90)
    put(folder, "good.csv", HEADER + "r1,ice,a\n")
    looking = watch(database, folder)
    assert [report.num_new for report in looking.look()] == [1]
    assert looking.look() == []
    put(folder, "broken.csv", HEADER + "r2,ice,b\n")
    assert [report.num_new for report in looking.look()] == [1]


def test_a_server_that_is_away_leaves_the_file_for_the_next_look(database: Engine, folder: Path) -> None:
    put(folder, "a.csv", HEADER + "r1,ice,a\n")
    away = make_engine("postgresql+psycopg://nobody@127.0.0.1:9/nowhere")
    looking = watch(away, folder)
    with pytest.raises(DatabaseUnavailableError):
        looking.look()
    looking._database = database
    assert [report.num_new for report in looking.look()] == [1]
    away.dispose()


def test_refused_rows_are_written_beside(database: Engine, folder: Path, tmp_path: Path) -> None:
    put(folder, "a.csv", HEADER + "r1,ice,a\nr2,unheard-of,b\n")
    put(folder, "clean.csv", HEADER + "r3,ice,a\n")
    (tmp_path / "rejects").mkdir()
    watch(database, folder, rejects=tmp_path / "rejects").look()
    written = (tmp_path / "rejects" / "a.csv.rejects.csv").read_text(encoding="utf-8").splitlines()
    assert written == ["line,reason,detail", "3,unknown_item,item unheard-of has not been loaded"]
    assert [path.name for path in (tmp_path / "rejects").iterdir()] == ["a.csv.rejects.csv"]


def test_a_file_whose_rejects_cannot_be_written_is_taken_once_they_can(
    database: Engine, folder: Path, tmp_path: Path
) -> None:
    put(folder, "a.csv", HEADER + "r1,ice,a\nr2,unheard-of,b\n")
    looking = watch(database, folder, rejects=tmp_path / "rejects")
    with pytest.raises(LocalFaultError, match=r"a\.csv\.rejects\.csv: cannot be written"):
        looking.look()
    assert num_submissions(database) == 0
    (tmp_path / "rejects").mkdir()
    assert [report.num_new for report in looking.look()] == [1]


def test_a_fault_of_this_machine_does_not_end_the_watch() -> None:
    class Looking:
        num_looks = 0

        def look(self) -> None:
            self.num_looks += 1
            if self.num_looks == 1:
                raise LocalFaultError
            os.kill(os.getpid(), signal.SIGTERM)

    looking, numbers = Looking(), (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        _until_told_to_stop(looking, 0.01)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert looking.num_looks == 2


def test_no_folder_is_said(database: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="absent: no such folder"):
        watch(database, tmp_path / "absent").look()


def test_the_process_picks_a_file_up_and_stops_when_told(
    database: Engine, database_url: str, folder: Path
) -> None:
    environment = {**os.environ, "SCOREFOLD_DATABASE__URL": database_url}
    command = [sys.executable, "-m", "workers.cli", "watch", str(folder), "--interval-s", "0.1"]
    with subprocess.Popen(
        [*command, "--settle-s", "0.2"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            put(folder, "night.csv", HEADER + "r1,ice,a\nr2,ice,b\n", age_s=0)
            deadline = time.monotonic() + 60
            while num_submissions(database) < 2:
                assert process.poll() is None
                assert time.monotonic() < deadline, "the file was not picked up"
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert num_submissions(database) == 2


@pytest.fixture
def bucket() -> Iterator[str]:
    """A prefix in memory, by the same interface that object stores have."""
    url = f"memory://bucket-{uuid.uuid4().hex}/in"
    yield url
    store, path = fsspec.core.url_to_fs(url)
    if store.exists(path):
        store.rm(path, recursive=True)


def put_object(url: str, name: str, content: str) -> None:
    with fsspec.open(f"{url}/{name}", "w", encoding="utf-8") as stream:
        stream.write(content)


def test_objects_below_a_prefix_are_submitted_once(database: Engine, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "rejects").mkdir()
    looking = watch(database, bucket, rejects=tmp_path / "rejects")
    assert looking.look() == []
    put_object(bucket, "b.csv", HEADER + "r1,ice,a\nr9,unheard-of,x\n")
    put_object(bucket, "a.csv", HEADER + "r2,ice,b\n")
    for name in (".hidden.csv", "night.csv.part", "deeper/x.csv"):
        put_object(bucket, name, HEADER + "r8,ice,x\n")
    assert [report.num_new for report in looking.look()] == [1, 1]
    assert looking.look() == []
    put_object(bucket, "renamed.csv", HEADER + "r2,ice,b\n")
    assert looking.look() == []
    put_object(bucket, "a.csv", HEADER + "r2,ice,b\nr3,ice,c\n")
    assert [report.num_new for report in looking.look()] == [1]
    assert num_submissions(database) == 3
    with database.connect() as connection:
        names = connection.execute(text("SELECT file_name FROM ingest.batch ORDER BY batch_id")).scalars()
        assert list(names) == ["b.csv", "a.csv", "a.csv"]
    assert [path.name for path in (tmp_path / "rejects").iterdir()] == ["b.csv.rejects.csv"]


def test_a_store_that_fails_leaves_the_object_for_the_next_look(
    database: Engine, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_object(bucket, "a.csv", HEADER + "r1,ice,a\n")
    looking = watch(database, bucket)
    store, _ = fsspec.core.url_to_fs(bucket)

    def fails(*_: object, **__: object) -> None:
        raise ConnectionResetError

    for method in ("ls", "get_file"):
        with monkeypatch.context() as broken:
            broken.setattr(type(store), method, fails)
            with pytest.raises(StoreUnavailableError, match="ConnectionResetError"):
                looking.look()
    assert [report.num_new for report in looking.look()] == [1]


def test_an_object_that_may_not_be_fetched_keeps_no_other_waiting(
    database: Engine, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("a.csv", "b.csv", "c.csv"), start=1):
        put_object(bucket, name, HEADER + f"r{number},ice,a\n")
    looking = watch(database, bucket)
    store, _ = fsspec.core.url_to_fs(bucket)
    fetch = type(store).get_file

    def refuses_b(self: object, where: str, *rest: object, **options: object) -> None:
        if where.endswith("b.csv"):
            raise PermissionError
        fetch(self, where, *rest, **options)

    with monkeypatch.context() as broken:
        broken.setattr(type(store), "get_file", refuses_b)
        assert [report.num_new for report in looking.look()] == [1, 1]
        with pytest.raises(StoreUnavailableError, match=r"b\.csv: cannot be fetched: PermissionError"):
            looking.look()
    assert [report.num_new for report in looking.look()] == [1]


@pytest.mark.parametrize(
    ("url", "told"), [("nosuch://x/y", "Protocol not known: nosuch"), ("s3://bucket/in", "s3fs")]
)
def test_a_store_that_cannot_be_opened_is_said_with_a_remedy(url: str, told: str) -> None:
    if url.startswith("s3") and find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(InvalidInputError, match=told):
        open_inbox(url)


def test_a_store_that_has_to_be_spoken_to_at_once_is_waited_for() -> None:
    with pytest.raises(StoreUnavailableError, match=r"^ftp://127\.0\.0\.1:1/in: does not answer: "):
        open_inbox("ftp://127.0.0.1:1/in")
