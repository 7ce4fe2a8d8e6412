"""What people have to read next, and the door by which their scores come back."""

from __future__ import annotations

from db.views.view import View

READ_QUEUE = View(
    name="read_queue",
    comment=(
        "One row per answer, trait and reason that waits for a human read, most needed first by priority,"
        " then confidence. It does not show the machine's level, so that the read is a person's own."
    ),
    select="""
        SELECT q.submission_id, s.source, s.response_id, s.attempt, q.item_id, q.trait, q.reason, q.priority,
               q.confidence, q.asked_at, s.text
        FROM (
            SELECT m.submission_id, c.item_id, m.trait,
                   CASE WHEN m.condition_code IS NULL THEN 'low_confidence' ELSE 'condition_code' END
                       AS reason,
                   CASE WHEN m.condition_code IS NULL THEN 4 ELSE 3 END AS priority, m.confidence,
                   m.scored_at AS asked_at
            FROM model.scorer c JOIN score.machine_score m USING (scorer_id)
            WHERE m.role = 'champion' AND m.needs_review
              AND NOT EXISTS (SELECT FROM score.machine_score n
                              WHERE n.submission_id = m.submission_id AND n.trait = m.trait
                                AND n.role = 'champion' AND n.machine_score_id > m.machine_score_id)
              AND NOT EXISTS (SELECT FROM score.human_score h
                              WHERE h.submission_id = m.submission_id AND h.trait = m.trait
                                AND h.purpose <> 'training')
            UNION ALL
            SELECT r.submission_id, a.item_id, r.trait, r.reason,
                   CASE r.reason WHEN 'appeal' THEN 1 WHEN 'disagreement' THEN 2 ELSE 5 END, NULL::real,
                   r.requested_at
            FROM score.read_request r JOIN ingest.submission a USING (submission_id)
            WHERE NOT EXISTS (SELECT FROM score.human_score h
                              WHERE h.submission_id = r.submission_id AND h.trait = r.trait
                                AND h.purpose <> 'training' AND h.scored_at >= r.requested_at)
            UNION ALL
            SELECT o.submission_id, a.item_id, t.trait, 'quarantined', 2, NULL::real, o.quarantined_at
            FROM ingest.quarantine o JOIN ingest.submission a USING (submission_id)
            JOIN model.trait t ON t.item_id = a.item_id
            WHERE o.resolved_at IS NULL AND o.submission_id IS NOT NULL
              AND NOT EXISTS (SELECT FROM score.machine_score m
                              WHERE m.submission_id = o.submission_id AND m.trait = t.trait
                                AND m.role = 'champion')
              AND NOT EXISTS (SELECT FROM score.human_score h
                              WHERE h.submission_id = o.submission_id AND h.trait = t.trait
                                AND h.purpose <> 'training')
        ) q
        JOIN ingest.submission s USING (submission_id)
    """,
    columns={
        "submission_id": "number of the submission",
        "source": "where it came from",
        "response_id": "the sender's id of the answer",
        "attempt": "the sender's attempt number",
        "item_id": "the question",
        "trait": "the thing to score",
        "reason": (
            "appeal, disagreement, quarantined (no machine could score it), condition_code, low_confidence or"
            " read_behind (drawn at random)"
        ),
        "priority": (
            "1 appeal, 2 disagreement or quarantined, 3 condition_code, 4 low_confidence, 5 read_behind"
        ),
        "confidence": "how sure the machine is of its level; null where that is not why it is asked",
        "asked_at": "since when it waits",
        "text": "the answer as the student wrote it",
    },
)

#: The view's level is numeric, so that a fraction arrives here and is refused, not rounded on the way.
#: The rights of the owner, so that graders need none on any table; no other schema is ever searched.
_TAKE_HUMAN_SCORE = """
CREATE OR REPLACE FUNCTION grader.take_human_score() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer record;
    item text;
    num_levels int;
BEGIN
    IF NEW.submission_id IS NULL THEN
        SELECT s.submission_id INTO NEW.submission_id FROM ingest.submission s
        WHERE s.source = NEW.source AND s.response_id = NEW.response_id
          AND s.attempt = coalesce(NEW.attempt, 1);
    END IF;
    SELECT s.source, s.response_id, s.attempt, s.item_id INTO answer
    FROM ingest.submission s WHERE s.submission_id = NEW.submission_id;
    item := answer.item_id;
    IF item IS NULL THEN
        RAISE foreign_key_violation USING MESSAGE =
            'no such answer: give submission_id, or source, response_id and attempt as read_queue shows them';
    END IF;
    -- Two names for two answers: nobody can say which one was read.
    IF coalesce(NEW.source, answer.source) <> answer.source
       OR coalesce(NEW.response_id, answer.response_id) <> answer.response_id
       OR coalesce(NEW.attempt, answer.attempt) <> answer.attempt OR coalesce(NEW.item_id, item) <> item THEN
        RAISE check_violation USING MESSAGE = format(
            'submission %s is response %s, attempt %s of source %s to item %s: what else is given must agree',
            NEW.submission_id, answer.response_id, answer.attempt, answer.source, item);
    END IF;
    NEW.source := answer.source;
    NEW.response_id := answer.response_id;
    NEW.attempt := answer.attempt;
    NEW.item_id := item;
    IF NEW.trait IS NULL THEN
        SELECT min(t.trait) INTO NEW.trait FROM model.trait t WHERE t.item_id = item HAVING count(*) = 1;
    END IF;
    SELECT t.num_levels INTO num_levels FROM model.trait t WHERE t.item_id = item AND t.trait = NEW.trait;
    IF num_levels IS NULL THEN
        RAISE check_violation USING MESSAGE = format('item %s has %s', item,
            (SELECT 'the traits ' || string_agg(t.trait, ', ' ORDER BY t.position)
             FROM model.trait t WHERE t.item_id = item));
    END IF;
    IF (NEW.level IS NULL) = (NEW.condition_code IS NULL) THEN
        RAISE check_violation USING MESSAGE = 'give either a level or a condition_code';
    END IF;
    IF NEW.level <> trunc(NEW.level) THEN
        RAISE check_violation USING MESSAGE = format('level %s is not a whole number', NEW.level);
    END IF;
    IF NEW.level NOT BETWEEN 0 AND num_levels - 1 THEN
        RAISE check_violation USING MESSAGE =
            format('item %s, trait %s has the levels 0 to %s', item, NEW.trait, num_levels - 1);
    END IF;
    NEW.purpose := coalesce(NEW.purpose, 'first');
    NEW.rater := coalesce(NEW.rater, session_user);
    IF btrim(NEW.rater) = '' THEN
        RAISE check_violation USING MESSAGE = 'rater is empty: leave it out to go by the name of your login';
    END IF;
    INSERT INTO score.human_score (submission_id, trait, purpose, rater, level, condition_code)
    VALUES (NEW.submission_id, NEW.trait, NEW.purpose, NEW.rater, NEW.level, NEW.condition_code)
    RETURNING human_score_id, scored_at INTO NEW.human_score_id, NEW.read_at;
    RETURN NEW;
EXCEPTION WHEN unique_violation THEN
    RAISE unique_violation USING MESSAGE = format(
        '%s has read submission %s, trait %s as %s before; scores are never overwritten: use another purpose,'
        ' such as adjudication', NEW.rater, NEW.submission_id, NEW.trait, NEW.purpose);
END $$
"""

_BY_INSERT = """
CREATE OR REPLACE TRIGGER take_human_score INSTEAD OF INSERT ON grader.human_scores
FOR EACH ROW EXECUTE FUNCTION grader.take_human_score()
"""

HUMAN_SCORES = View(
    name="human_scores",
    comment=(
        "One row per human read. INSERT into it to give a score: submission_id (or source, response_id and"
        " attempt), level or condition_code; trait where there are several, purpose if not first. A given"
        " score is never changed; a stronger purpose counts instead of it. All names of an answer must agree."
    ),
    select="""
        SELECT h.human_score_id, h.submission_id, s.source, s.response_id, s.attempt, s.item_id, h.trait,
               h.purpose, h.rater, h.level::numeric AS level, h.condition_code, h.scored_at AS read_at
        FROM score.human_score h JOIN ingest.submission s USING (submission_id)
    """,
    columns={
        "human_score_id": "number of the read; the database gives it",
        "submission_id": "number of the submission",
        "source": "where it came from",
        "response_id": "the sender's id of the answer",
        "attempt": "the sender's attempt number; 1 if left out",
        "item_id": "the question; follows from the submission, and must agree with it if given",
        "trait": "the thing scored; may be left out where the item has one",
        "purpose": "first (if left out), second, read_behind, adjudication, appeal or training",
        "rater": "who read it; the name you are logged in by if left out",
        "level": "the level, a whole number from 0",
        "condition_code": "why there is no level",
        "read_at": "when it was given; the database sets it",
    },
    rules=(_TAKE_HUMAN_SCORE, _BY_INSERT),
)
