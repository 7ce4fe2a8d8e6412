"""A small school for retraining tests: an item that can be learned, answers, and people who read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db import intake
from db.intake import FileHeader, IncomingRow
from db.session import make_engine
from scoring.config import LoraShape, TrainingConfig
from scoring.evaluation.policy import Policy, read_policy
from scoring.text import duplicate_key
from tests.deployment import Deployment
from tests.rows import digest
from tests.unit.tiny_encoders import WORDS, write_encoder
from workers.retraining import Retrainer
from workers.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from workers.lessons import History
    from workers.succession import Retrained

#: The word whose number in an answer is the answer's level.
TOLD_BY = "heat"
QUICK = TrainingConfig(
    max_epochs=12,
    min_steps=0,
    max_tokens=32,
    num_adapted_layers=None,
    lora=LoraShape(rank=4, alpha=8.0),
    adapter_lr=5e-3,
    head_lr=1e-2,
    patience=12,
)


def policy(**sections: dict[str, object]) -> Policy:
    """The default policy for small folds, with changes by section."""
    values = read_policy().model_dump()
    values["evidence"] |= {"min_answers": 20, "num_resamples": 200}
    values["agreement"] |= {"min_qwk": 0.4, "max_abs_smd": 0.5}
    values["retraining"] |= {"min_new_reads": 100, "min_new_reads_if_worse": 20, "on_pass": "champion"}
    for name, changes in sections.items():
        values[name] |= changes
    return Policy.model_validate(values)


def answer(level: int, rng: np.random.Generator) -> str:
    others = [word for word in WORDS if word != TOLD_BY]
    words = [*rng.choice(others, size=int(rng.integers(3, 8))), *[TOLD_BY] * level]
    rng.shuffle(words)
    return " ".join(words)


def settings_for(folder: Path, database_url: str, *, lease_s: float = 20.0) -> Settings:
    return Settings(
        home={"path": folder / "home"},
        database={"url": database_url},
        backbone={"name": str(folder / "encoder")},
        artifacts={"url": str(folder / "artifacts")},
        worker={"lease_s": lease_s},
    )


@dataclass
class School:
    """A registry, a store and settings that lead there."""

    town: Deployment
    settings: Settings

    @classmethod
    def create(cls, folder: Path, database_url: str, *, lease_s: float = 20.0) -> School:
        write_encoder(folder / "encoder")
        settings = settings_for(folder, database_url, lease_s=lease_s)
        environment = {
            "SCOREFOLD_BACKBONE__NAME": settings.backbone.name,
            "SCOREFOLD_ARTIFACTS__URL": settings.artifact_url(),
        }
        return cls(Deployment(folder, make_engine(database_url), environment), settings)

    def serve(self, item_id: str, *levels: int, seed: int = 1) -> int:
        """A champion that knows nothing."""
        return self.town.add_scorer(item_id, levels or (3,), seed=seed, promote=True)

    def hand_in(
        self, item_id: str, num_answers: int, *, seed: int = 0, per_student: int = 2, num_repeated: int = 0
    ) -> list[tuple[int, int]]:
        """Accept answers, the last ones repeating the first ones' texts; (number, right level) of each."""
        rng = np.random.default_rng([seed, len(item_id)])
        levels = [int(rng.integers(3)) for _ in range(num_answers)]
        texts = [answer(level, rng) for level in levels]
        for place in range(num_repeated):
            texts[-1 - place], levels[-1 - place] = texts[place].upper().lower(), levels[place]
        name = f"{item_id}-{seed}"
        rows = [
            IncomingRow(
                line=number,
                response_id=f"{name}-{number}",
                attempt=1,
                item_id=item_id,
                text=told,
                text_key=duplicate_key(told),
                content_sha256=digest(f"{item_id}\0{told}"),
                student_id=f"{name}-s{number // per_student}",
            )
            for number, told in enumerate(texts, start=1)
        ]
        with self.town.database.begin() as connection:
            report = intake.accept_file(
                connection, FileHeader("lms", name, "csv", digest(name).hex(), 1), rows
            )
            rows_by_id = connection.execute(
                text("SELECT submission_id, response_id FROM ingest.submission WHERE batch_id = :batch"),
                {"batch": report.batch_id},
            )
            numbers = {row.response_id: row.submission_id for row in rows_by_id}
        return [(numbers[row.response_id], level) for row, level in zip(rows, levels, strict=True)]

    def read(
        self,
        handed_in: list[tuple[int, int]],
        *,
        trait: str = "trait0",
        rater: str = "ada",
        purpose: str = "first",
    ) -> None:
        """People give answers their level, by a plain INSERT."""
        with self.town.database.begin() as connection:
            connection.execute(
                text("""
                    INSERT INTO score.human_score (submission_id, trait, purpose, rater, level)
                    VALUES (:id, :trait, :purpose, :rater, :level)
                """),
                [
                    {"id": number, "trait": trait, "purpose": purpose, "rater": rater, "level": level}
                    for number, level in handed_in
                ],
            )

    def retrain(
        self,
        period: str,
        *,
        by: Policy | None = None,
        config: TrainingConfig = QUICK,
        history: History | None = None,
    ) -> list[Retrained]:
        retrainer = Retrainer(
            self.town.database, self.settings, by or policy(), config=config, history=history, num_threads=1
        )
        return list(retrainer.run_due(period))

    def aliases(self, item_id: str) -> dict[str, int]:
        with self.town.database.connect() as connection:
            rows = connection.execute(
                text("SELECT alias, scorer_id FROM model.alias WHERE item_id = :id"), {"id": item_id}
            )
            return {row.alias: row.scorer_id for row in rows}

    def faults(self) -> list[str]:
        """What contradicts retraining's promise, on any registry."""
        checks = {
            "scorer without its artifacts' extractor": """
                SELECT count(*) FROM model.scorer s LEFT JOIN model.extractor x USING (extractor_id)
                WHERE x.extractor_id IS NULL""",
            "finished run without a scorer or a verdict": """
                SELECT count(*) FROM model.training_run r WHERE r.period IS NOT NULL AND r.state = 'done'
                  AND (r.verdict IS NULL OR r.decision IS NULL OR r.finished_at IS NULL)""",
            "scorer of a run that is not finished": """
                SELECT count(*) FROM model.scorer s JOIN model.training_run r USING (training_run_id)
                WHERE r.period IS NOT NULL AND r.state <> 'done'""",
            "two runs of an item in a period": """
                SELECT count(*) FROM (SELECT 1 FROM model.training_run WHERE period IS NOT NULL
                                      GROUP BY item_id, period HAVING count(*) > 1) d""",
            "finished run without lineage": """
                SELECT count(*) FROM model.training_run r WHERE r.period IS NOT NULL AND r.state = 'done'
                  AND NOT EXISTS (SELECT FROM model.training_run_submission t
                                  WHERE t.training_run_id = r.training_run_id)""",
            "equal answers on two sides": """
                SELECT count(*) FROM (
                    SELECT 1 FROM model.training_run_submission t
                    JOIN ingest.submission s USING (submission_id)
                    GROUP BY t.training_run_id, s.text_key HAVING count(DISTINCT t.fold) > 1) d""",
            "one student on two sides": """
                SELECT count(*) FROM (
                    SELECT 1 FROM model.training_run_submission t
                    JOIN ingest.submission s USING (submission_id)
                    GROUP BY t.training_run_id, s.student_key HAVING count(DISTINCT t.fold) > 1) d""",
            "promotion without audit": """
                SELECT count(*) FROM model.training_run r JOIN model.scorer s USING (training_run_id)
                WHERE r.decision IN ('champion', 'shadow') AND NOT EXISTS (
                    SELECT FROM score.audit a WHERE a.subject = r.item_id AND a.actor = 'policy'
                      AND (a.detail->'after'->>r.decision)::bigint = s.scorer_id)""",
        }
        found = {name: self.town.count(query) for name, query in checks.items()}
        return [f"{number} {name}" for name, number in found.items() if number]
