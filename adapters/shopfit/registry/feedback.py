"""What came of answers: clicks, purchases, dismissals, labels and corrections, kept for training and evaluation."""

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from shopfit.registry import queries, validation
from shopfit.registry.database import Database
from shopfit.registry.feedback_rules import check
from shopfit.registry.merchants import known
from shopfit.registry.queries import batched
from shopfit.registry.schema import FEEDBACK, SECRETS
from shopfit.registry.serving import Feedback

_ROWS = 50  # a statement
_COLUMNS = [FEEDBACK.c[field.name] for field in fields(Feedback)]


class FeedbackLog:
    """The part of `Registry` that is about feedback."""

    _database: Database

    def add_feedback(self, rows: Sequence[Feedback]) -> int:
        """Keep what came of answers, all in one transaction.

        A row with an `event` is kept once for its merchant, answer, kind and item, however often it is given. Rows of
        merchants that have neither versions nor keys, such as erased ones, are left out.

        Args:
            rows: of any merchants.

        Returns:
            how many are new.

        Raises:
            DataError: with every bad row; then none is kept.
            RegistryError: if the registry cannot be written.
        """
        given = check(list(validation.rows("rows", rows)))
        if not given:
            return 0
        new = 0
        with self._database.writing() as connection:
            there = known(connection, {row.merchant for row in given})
            # in one order, so that two processes that tell the same events cannot wait for each other
            values = sorted((_values(row) for row in given if row.merchant in there), key=lambda one: one["event_key"])
            for part in batched(values, _ROWS):
                statement = queries.upsert(connection, FEEDBACK).values(part).on_conflict_do_nothing()
                new += connection.execute(statement.execution_options(preserve_rowcount=True)).rowcount
        return new

    def feedback(self, merchant: str, since: datetime | None = None) -> list[Feedback]:
        """What came of a merchant's answers, oldest first.

        Args:
            merchant: its name.
            since: leave out what happened before; with time zone.

        Raises:
            UnknownReference: if `merchant` cannot be one's name.
            RegistryError: if `since` is no time, or the registry cannot be read.
        """
        name, begin = validation.merchant(merchant), validation.moment("since", since)
        where = [FEEDBACK.c.merchant == name, *([] if begin is None else [FEEDBACK.c.at >= begin])]
        statement = select(*_COLUMNS).where(*where).order_by(FEEDBACK.c.at, FEEDBACK.c.event_key)
        with self._database.reading() as connection:
            return [_feedback(row) for row in connection.execute(statement)]

    def answer_secret(self) -> bytes:
        """What servers sign ids of answers with, 32 bytes: all servers of this registry have it, and nobody else may.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        statement = select(SECRETS.c.value).where(SECRETS.c.name == "answers")
        with self._database.reading() as connection:
            return bytes.fromhex(connection.execute(statement).scalar_one())


def _values(row: Feedback) -> dict[str, Any]:
    same = json.dumps([row.answer_id, row.kind, row.item, row.event])
    key = secrets.token_hex(32) if row.event is None else hashlib.sha256(same.encode()).hexdigest()
    return {"event_key": key, **{field.name: getattr(row, field.name) for field in fields(row)}}


def _feedback(row: Row[Any]) -> Feedback:
    return Feedback(**row._asdict())
