"""One line of log per thing that happened, each with an `action`; never a secret, never a student's text."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from workers.settings import TelemetrySettings


# A verb that shows tables keeps standard output for them: until configured, warnings only.
structlog.configure(
    wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    logger_factory=structlog.PrintLoggerFactory(sys.stderr),
)


def configure_logging(settings: TelemetrySettings) -> None:
    """Send our lines and those of the libraries to standard error, as JSON or as words."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=False, event_key="action")
    )
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.EventRenamer("action"),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_foreign],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(_level(settings), logging.WARNING))
    logging.getLogger("scorefold").setLevel(_level(settings))


def get_logger(room: str) -> structlog.stdlib.BoundLogger:
    """The logger of one room; the first argument of each call is the action."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(f"scorefold.{room}")
    return logger


def _level(settings: TelemetrySettings) -> int:
    return int(logging.getLevelNamesMapping()[settings.log_level.upper()])


def _name_foreign(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    # Libraries do not say an action: theirs is the name of the logger.
    record = event.get("_record")
    event.setdefault("action", getattr(record, "name", "library"))
    return event
