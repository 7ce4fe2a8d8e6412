"""One scorer with its extractor in one plain folder, to be carried elsewhere and opened without scorefold.

The adapter lies there as PEFT writes it, head and golden logits as safetensors, everything else in one
manifest that holds each file's hash. Knows no store: artifacts come in and go out.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scoring.artifacts.extractor import extractor_files, extractor_from, extractor_manifest
from scoring.artifacts.folders import MANIFEST_FILE
from scoring.artifacts.scorer import scorer_files, scorer_from, scorer_manifest
from scoring.errors import CorruptArtifactError, IncompatibleArtifactError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scoring.artifacts.extractor import ExtractorArtifact
    from scoring.artifacts.scorer import ScorerArtifact

FORMAT = "scorefold.bundle/2"
CARD_FILE = "README.md"
_EXTRACTOR_FILES = ("adapter_config.json", "adapter_model.safetensors")
_SCORER_FILES = ("head.safetensors", "golden.safetensors")
#: Far more than any head and adapter need; a manifest of more is not read.
_MAX_FILE_BYTES = 4_000_000_000
_MAX_MANIFEST_BYTES = 50_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A scorer and the extractor it was fitted on."""

    scorer: ScorerArtifact
    extractor: ExtractorArtifact

    def __post_init__(self) -> None:
        if self.scorer.backbone_revision != self.extractor.backbone_revision:
            raise IncompatibleArtifactError(
                f"item {self.scorer.item.item_id}: its head is for backbone {self.scorer.backbone} "
                f"({self.scorer.backbone_revision[:12]}), its adapter for {self.extractor.backbone} "
                f"({self.extractor.backbone_revision[:12]})"
            )


def write_bundle(folder: Path, bundle: Bundle, *, card: str) -> None:
    """Write a bundle; the folder appears whole or not at all.

    Args:
        folder: where; must not exist, or be empty.
        bundle: what.
        card: the model card, README.md of the folder.

    Raises:
        InvalidInputError: there is something already, or it cannot be written.
    """
    files = {**extractor_files(bundle.extractor), **scorer_files(bundle.scorer), CARD_FILE: card.encode()}
    manifest = {
        "format": FORMAT,
        "extractor": extractor_manifest(bundle.extractor),
        "scorer": scorer_manifest(bundle.scorer),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    manifest["sha256"] = _digest(manifest)
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInputError(f"{folder}: is there already; name a new folder")
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        beside.mkdir(parents=True)
        for name, content in files.items():
            (beside / name).write_bytes(content)
        (beside / MANIFEST_FILE).write_text(f"{text}\n", encoding="utf-8")
        os.replace(beside, folder)  # noqa: PTH105 (unlike Path.rename it says what it does to an empty folder)
    except OSError as error:
        raise InvalidInputError(f"{folder}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle with every check: hashes, names, shapes, levels, values; safetensors and JSON only.

    Raises:
        InvalidInputError: there is no such folder or it is no bundle.
        CorruptArtifactError: a file is missing, truncated or changed, or is no safetensors file.
        IncompatibleArtifactError: another format, another formula, or parts that do not fit each other.
    """
    manifest = _manifest(folder)
    listed = manifest["files"]
    wanted = [name for name in (*_EXTRACTOR_FILES, *_SCORER_FILES) if name in listed]
    files = {name: _checked(folder, name, str(listed[name])) for name in wanted}
    where = str(folder)
    extractor = extractor_from(manifest["extractor"], _only(files, _EXTRACTOR_FILES), where=where)
    scorer = scorer_from(manifest["scorer"], _only(files, _SCORER_FILES), where=where)
    return Bundle(scorer, extractor)


def _manifest(folder: Path) -> dict[str, Any]:
    content = _content(folder, MANIFEST_FILE, max_bytes=_MAX_MANIFEST_BYTES)
    try:
        manifest = json.loads(content)
        parts = [manifest[name] for name in ("files", "extractor", "scorer")]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptArtifactError(f"{folder}/{MANIFEST_FILE}: not the manifest of an export") from error
    if not all(isinstance(part, dict) for part in parts):
        raise CorruptArtifactError(f"{folder}/{MANIFEST_FILE}: not the manifest of an export")
    if manifest.get("format") != FORMAT:
        raise IncompatibleArtifactError(
            f"{folder}/{MANIFEST_FILE}: format {manifest.get('format')!r}, this version reads {FORMAT!r};"
            " export it again"
        )
    if manifest.get("sha256") != _digest(manifest):
        raise CorruptArtifactError(
            f"{folder}/{MANIFEST_FILE}: changed since it was written (sha256 differs); export it again"
        )
    return dict(manifest)


def _digest(manifest: Mapping[str, Any]) -> str:
    """Sha256 (hex) over all else in a manifest: cut points and thresholds stand in no tensor file."""
    told = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _checked(folder: Path, name: str, digest: str) -> bytes:
    content = _content(folder, name, max_bytes=_MAX_FILE_BYTES)
    if hashlib.sha256(content).hexdigest() != digest:
        raise CorruptArtifactError(
            f"{folder}/{name}: truncated or changed since it was written (sha256 differs); export it again"
        )
    return content


def _content(folder: Path, name: str, *, max_bytes: int) -> bytes:
    path = folder / name
    if not folder.is_dir():
        raise InvalidInputError(f"{folder}: there is no such folder")
    try:
        if path.stat().st_size > max_bytes:
            raise CorruptArtifactError(f"{path}: larger than {max_bytes:,} bytes")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptArtifactError(f"{path}: is missing") from error
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error.strerror}") from error


def _only(files: Mapping[str, bytes], names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: files[name] for name in names if name in files}
