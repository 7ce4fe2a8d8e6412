"""All tables, one file a schema. SQLModel does not validate them: borders do, and CHECKs repeat the rules."""

from db.models.ingest import BatchRow, LeaseRow, QuarantineRow, RejectRow, SubmissionRow, WorkRow
from db.models.merge import (
    GwCloudRow,
    GwCloudSubmissionRow,
    GwDistanceRow,
    GwRunCloudRow,
    GwRunRow,
    MergeEventRow,
    MergeMemberRow,
    MergePinRow,
    MergeProposalRow,
)
from db.models.model import (
    AliasRow,
    EpochRow,
    ExtractorRow,
    ItemRow,
    ScorerRow,
    TrainingRunRow,
    TrainingRunSubmissionRow,
    TraitRow,
)
from db.models.ops import RunRow
from db.models.pii import StudentRow
from db.models.schema import metadata
from db.models.score import AuditRow, HumanScoreRow, MachineScoreRow, ReadRequestRow

__all__ = [
    "AliasRow",
    "AuditRow",
    "BatchRow",
    "EpochRow",
    "ExtractorRow",
    "GwCloudRow",
    "GwCloudSubmissionRow",
    "GwDistanceRow",
    "GwRunCloudRow",
    "GwRunRow",
    "HumanScoreRow",
    "ItemRow",
    "LeaseRow",
    "MachineScoreRow",
    "MergeEventRow",
    "MergeMemberRow",
    "MergePinRow",
    "MergeProposalRow",
    "QuarantineRow",
    "ReadRequestRow",
    "RejectRow",
    "RunRow",
    "ScorerRow",
    "StudentRow",
    "SubmissionRow",
    "TrainingRunRow",
    "TrainingRunSubmissionRow",
    "TraitRow",
    "WorkRow",
    "metadata",
]
