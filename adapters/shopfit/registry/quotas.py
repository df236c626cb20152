"""Quotas: what merchants may ask of all servers together, and the tokens that they used of it."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date

from sqlalchemy import delete, select

from shopfit.registry import queries, validation
from shopfit.registry.database import Database
from shopfit.registry.merchants import check_known, known
from shopfit.registry.schema import LIMITS, USAGE
from shopfit.registry.serving import UNLIMITED, Limits

_NO_KEY = "make its first key: `shopfit key create MERCHANT --scope infer --new`"
_ROWS = 200  # a statement


class Quotas:
    """The part of `Registry` that is about limits and usage."""

    _database: Database

    def set_limits(self, merchant: str, limits: Limits, *, actor: str) -> None:
        """Replace all limits of a merchant; servers heed them within a second.

        Args:
            merchant: its name.
            limits: `Limits()` for none of its own, so that it has those of the gateways' options.
            actor: who sets them, for the audit.

        Raises:
            UnknownReference: if the registry has neither versions nor keys of the merchant.
            RegistryError: if a limit is out of range, or the registry cannot be written.
        """
        name, actor, limits = validation.merchant(merchant), validation.actor(actor), validation.limits(limits)
        values = asdict(limits)
        with self._database.writing() as connection:
            if limits == Limits():
                connection.execute(delete(LIMITS).where(LIMITS.c.merchant == name))
            else:
                check_known(connection, name, _NO_KEY)
                statement = queries.upsert(connection, LIMITS).values(merchant=name, **values)
                connection.execute(statement.on_conflict_do_update(index_elements=["merchant"], set_=values))
            told = [
                f"{what} {'unlimited' if value == UNLIMITED else value}"
                for what, value in values.items()
                if value is not None
            ]
            queries.record(connection, actor, "limit", name, "", 0, ", ".join(told) or "none of its own")

    def limits(self) -> dict[str, Limits]:
        """The limits of every merchant that has any of its own, by name.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        with self._database.reading() as connection:
            rows = connection.execute(select(LIMITS).order_by(LIMITS.c.merchant)).all()
        return {row.merchant: Limits(row.requests_per_minute, row.concurrent, row.tokens_per_day) for row in rows}

    def add_usage(self, tokens: Mapping[str, int], day: date) -> None:
        """Count tokens that merchants used, all in one transaction; those of merchants that were erased are left out.

        Args:
            tokens: by merchant, 0 or more.
            day: of UTC.

        Raises:
            UnknownReference: if a name cannot be a merchant's.
            RegistryError: if another argument is invalid, or the registry cannot be written; then nothing is counted.
        """
        day, counts = validation.day(day), validation.token_counts(tokens)
        if not counts:
            return
        with self._database.writing() as connection:
            # in one order, so that two processes that count the same merchants cannot wait for each other
            there = sorted(known(connection, counts))
            for part in queries.batched(there, _ROWS):
                rows = [{"merchant": name, "day": day, "tokens": counts[name]} for name in part]
                statement = queries.upsert(connection, USAGE).values(rows)
                total = {"tokens": USAGE.c.tokens + statement.excluded.tokens}
                connection.execute(statement.on_conflict_do_update(index_elements=["merchant", "day"], set_=total))

    def usage(self, day: date) -> dict[str, int]:
        """The tokens that each merchant used in a day of UTC, by name.

        Raises:
            RegistryError: if `day` is no date, or the registry cannot be read.
        """
        statement = select(USAGE.c.merchant, USAGE.c.tokens).where(USAGE.c.day == validation.day(day))
        with self._database.reading() as connection:
            return {row.merchant: row.tokens for row in connection.execute(statement.order_by(USAGE.c.merchant))}
