"""Feature clouds and distances as rows: what a night compared, and what it need not compute again.

Features pass through as bytes; what they mean is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.leases import hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from db.gw_runs import GwRunClaim


@dataclass(frozen=True, slots=True)
class RecentAnswer:
    """A recent answer of an item; the text stays inside the process."""

    submission_id: int
    text: str
    text_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudRecord:
    """One cloud: a sample of answers, their features in half precision, and what was measured on them."""

    digest: str
    item_id: str
    scorer_id: int
    num_answers: int
    num_asked: int
    hidden_size: int
    seed: int
    scale: float
    noise_floor: float | None
    features: bytes
    submission_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StandingCloud:
    """An item's newest cloud, how many answers it was to hold, and how many distinct ones came in since."""

    digest: str
    extractor_key: str
    num_answers: int
    seed: int
    num_asked: int
    num_since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceRecord:
    """The distance of two clouds."""

    first_digest: str
    second_digest: str
    distance: float
    lower_bound: float
    num_answers: int
    is_solved: bool
    is_certified: bool


def recent_answers(connection: Connection, item_id: str, *, limit: int) -> list[RecentAnswer]:
    """An item's newest distinct answers, in the order of submission."""
    rows = connection.execute(
        text("""
            SELECT s.submission_id, s.text, s.text_key FROM (
                SELECT max(submission_id) AS submission_id FROM ingest.submission
                WHERE item_id = :item_id GROUP BY text_key ORDER BY 1 DESC LIMIT :limit
            ) r JOIN ingest.submission s USING (submission_id) ORDER BY s.submission_id
        """),
        {"item_id": item_id, "limit": limit},
    )
    return [RecentAnswer(row.submission_id, row.text, bytes(row.text_key)) for row in rows]


def standing_clouds(connection: Connection) -> dict[str, StandingCloud]:
    """Each item's newest cloud."""
    rows = connection.execute(
        text("""
            SELECT c.item_id, c.digest, x.extractor_key, c.num_answers, c.seed, c.num_asked,
                   (SELECT count(DISTINCT s.text_key) FROM ingest.submission s
                    WHERE s.item_id = c.item_id AND s.submission_id > (
                        SELECT max(m.submission_id) FROM model.gw_cloud_submission m
                        WHERE m.digest = c.digest)) AS num_since
            FROM (SELECT DISTINCT ON (item_id) * FROM model.gw_cloud ORDER BY item_id, created_at DESC) c
            JOIN model.scorer k USING (scorer_id) JOIN model.extractor x USING (extractor_id)
        """)
    )
    return {
        row.item_id: StandingCloud(
            row.digest, row.extractor_key, row.num_answers, row.seed, row.num_asked, row.num_since
        )
        for row in rows
    }


def add_cloud(connection: Connection, claimed: GwRunClaim, cloud: CloudRecord) -> bool:
    """Keep a cloud, with the answers it is made of, and let it stand for its item in this run.

    One that was there before is the item's newest again.

    Returns:
        False where one of its answers has been erased since it was drawn; then nothing is kept.
    """
    hold(connection, claimed.lease)
    if not _all_there(connection, cloud.submission_ids):
        return False
    connection.execute(
        text("""
            INSERT INTO model.gw_cloud AS c (digest, item_id, scorer_id, num_answers, num_asked, hidden_size,
                                             seed, scale, noise_floor, features)
            VALUES (:digest, :item_id, :scorer_id, :num_answers, :num_asked, :hidden_size, :seed, :scale,
                    :noise_floor, :features)
            ON CONFLICT (digest) DO UPDATE
            SET num_asked = greatest(c.num_asked, excluded.num_asked), created_at = now()
        """),
        {name: getattr(cloud, name) for name in CloudRecord.__slots__ if name != "submission_ids"},
    )
    connection.execute(
        text("""
            INSERT INTO model.gw_cloud_submission (digest, submission_id)
            SELECT :digest, * FROM unnest(CAST(:ids AS bigint[])) ON CONFLICT DO NOTHING
        """),
        {"digest": cloud.digest, "ids": list(cloud.submission_ids)},
    )
    use_cloud(connection, claimed, cloud.item_id, cloud.digest)
    return True


def _all_there(connection: Connection, submission_ids: Sequence[int]) -> bool:
    """Whether none of these answers has been erased; a later erasure waits for the transaction."""
    rows = connection.execute(
        text("""
            SELECT submission_id FROM ingest.submission
            WHERE submission_id = ANY(CAST(:ids AS bigint[])) ORDER BY submission_id FOR KEY SHARE
        """),
        {"ids": list(submission_ids)},
    )
    return len(rows.all()) == len(set(submission_ids))


def use_cloud(connection: Connection, claimed: GwRunClaim, item_id: str, digest: str) -> None:
    """Let a cloud stand for its item in this run."""
    connection.execute(
        text("""
            INSERT INTO model.gw_run_cloud (gw_run_id, item_id, digest) VALUES (:run, :item_id, :digest)
            ON CONFLICT (gw_run_id, item_id) DO UPDATE SET digest = excluded.digest
        """),
        {"run": claimed.gw_run_id, "item_id": item_id, "digest": digest},
    )


def items_of_run(connection: Connection, gw_run_id: int) -> set[str]:
    """The items that have a cloud in a run."""
    rows = connection.execute(
        text("SELECT item_id FROM model.gw_run_cloud WHERE gw_run_id = :run"), {"run": gw_run_id}
    )
    return set(rows.scalars())


def clouds_of_run(
    connection: Connection, gw_run_id: int, *, item_ids: Sequence[str] = ()
) -> list[CloudRecord]:
    """The clouds of a run with their features, by item; all of them, or those of these items."""
    rows = connection.execute(
        text("""
            SELECT c.digest, c.item_id, c.scorer_id, c.num_answers, c.num_asked, c.hidden_size, c.seed,
                   c.scale, c.noise_floor, c.features
            FROM model.gw_run_cloud r JOIN model.gw_cloud c USING (digest)
            WHERE r.gw_run_id = :run AND (
                cardinality(CAST(:items AS text[])) = 0 OR r.item_id = ANY(CAST(:items AS text[])))
            ORDER BY c.item_id
        """),
        {"run": gw_run_id, "items": list(item_ids)},
    )
    return [CloudRecord(**{**row._mapping, "features": bytes(row.features)}) for row in rows]


def known_distances(connection: Connection, gw_run_id: int, settings_key: str) -> list[DistanceRecord]:
    """Distances between a run's clouds that have been computed under these settings, by whichever run."""
    rows = connection.execute(
        text("""
            SELECT d.first_digest, d.second_digest, d.distance, d.lower_bound, d.num_answers, d.is_solved,
                   d.is_certified
            FROM model.gw_run_cloud a
            JOIN model.gw_distance d ON d.first_digest = a.digest AND d.settings_key = :settings_key
            JOIN model.gw_run_cloud b ON b.digest = d.second_digest AND b.gw_run_id = a.gw_run_id
            WHERE a.gw_run_id = :run
        """),
        {"run": gw_run_id, "settings_key": settings_key},
    )
    return [DistanceRecord(**row._mapping) for row in rows]


def judged_clouds(connection: Connection, gw_run_id: int, settings_key: str) -> set[str]:
    """Digests of the clouds of the last run under these settings that went to its end before this one."""
    rows = connection.execute(
        text("""
            SELECT c.digest FROM model.gw_run_cloud c
            WHERE c.gw_run_id = (
                SELECT gw_run_id FROM model.gw_run
                WHERE state = 'done' AND gw_run_id < :run AND settings ->> 'settings_key' = :settings_key
                ORDER BY gw_run_id DESC LIMIT 1)
        """),
        {"run": gw_run_id, "settings_key": settings_key},
    )
    return set(rows.scalars())


def add_distances(
    connection: Connection, claimed: GwRunClaim, distances: Sequence[DistanceRecord], *, settings_key: str
) -> None:
    """Keep distances; one that is known is replaced, since a later night may have solved what was coarse."""
    hold(connection, claimed.lease)
    if not distances:
        return
    columns = ("first_digest", "second_digest", "distance", "lower_bound", "num_answers", "is_solved")
    connection.execute(
        text("""
            INSERT INTO model.gw_distance (first_digest, second_digest, settings_key, distance, lower_bound,
                                           num_answers, is_solved, is_certified, gw_run_id)
            SELECT f, s, :settings_key, d, b, n, solved, certified, :run
            FROM unnest(CAST(:first_digest AS text[]), CAST(:second_digest AS text[]),
                        CAST(:distance AS float8[]), CAST(:lower_bound AS float8[]),
                        CAST(:num_answers AS int[]), CAST(:is_solved AS bool[]),
                        CAST(:is_certified AS bool[])) AS given(f, s, d, b, n, solved, certified)
            ON CONFLICT (first_digest, second_digest, settings_key) DO UPDATE
            SET distance = excluded.distance, lower_bound = excluded.lower_bound,
                num_answers = excluded.num_answers, is_solved = excluded.is_solved,
                is_certified = excluded.is_certified, gw_run_id = excluded.gw_run_id, computed_at = now()
        """),
        {
            "run": claimed.gw_run_id,
            "settings_key": settings_key,
            **{name: [getattr(one, name) for one in distances] for name in (*columns, "is_certified")},
        },
    )


def drop_old_clouds(connection: Connection, *, keep_runs: int = 7) -> int:
    """Drop clouds that stood in none of the newest runs, their distances along with them."""
    dropped = connection.execute(
        text("""
            DELETE FROM model.gw_cloud c WHERE NOT EXISTS (
                SELECT FROM model.gw_run_cloud r WHERE r.digest = c.digest AND r.gw_run_id IN (
                    SELECT gw_run_id FROM model.gw_run ORDER BY gw_run_id DESC LIMIT :keep_runs))
        """),
        {"keep_runs": keep_runs},
    )
    return dropped.rowcount
