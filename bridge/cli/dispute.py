"""`callbridge dispute …`: what is claimed, argued about and agreed on."""

from __future__ import annotations

import json
import mimetypes
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from bridge.cli.arguments import Author, amount_micro, instant
from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database
from bridge.errors import ConfigError

app = typer.Typer(help="Disputes with partners and carriers.", no_args_is_help=True)

Id = Annotated[UUID, typer.Argument(metavar="DISPUTE")]
Claimed = Annotated[
    int | None,
    typer.Option(
        "--amount", parser=amount_micro, metavar="AMOUNT", help="Above 0; of a run it is what the run says."
    ),
]
Kind = Literal["rate", "duration", "only_ours", "only_theirs", "duplicate", "other"]
Text = Annotated[str, typer.Option("--text", help="What is said about it; the other side reads it.")]


@app.command("open")
def open_one(
    title: Annotated[str, typer.Argument(help="One line that says what it is about.")],
    author: Author,
    party: Annotated[
        str | None, typer.Option("--with", help="The partner's name, or the carrier's account.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="That of the class unless given.")] = None,
    amount: Claimed = None,
    run_id: Annotated[UUID | None, typer.Option("--run", help="A reconciliation.")] = None,
    class_: Annotated[
        Literal["rate", "duration", "only_ours", "only_theirs"] | None,
        typer.Option("--class", help="All its calls of a class."),
    ] = None,
    rows: Annotated[
        list[int] | None, typer.Option("--row", help="Only this row of its file; repeatable.")
    ] = None,
    by_them: Annotated[bool, typer.Option("--theirs", help="They claim it: note it for them.")] = False,
    deadline: Annotated[datetime | None, typer.Option("--deadline", parser=instant, metavar="WHEN")] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Open a dispute, by hand or from a reconciliation. The amount is claimed for whoever opens it."""
    from bridge.partners.store import dispute as store
    from bridge.partners.store import reconcile

    async def work(conn: Any) -> Any:
        if run_id is not None:
            account_id = UUID((await reconcile.run(conn, run_id))["account_id"])
        elif party is not None:
            account_id = (await reconcile.counterparty(conn, party))["account_id"]
        else:
            raise ConfigError("dispute", "says not with whom", "Give --with NAME, or --run RUN.")
        claim = store.Claim(
            "them" if by_them else "us", kind or class_ or "other", title, author, amount, None, deadline,
            run_id=run_id, class_=class_, rows=tuple(rows or ()),
        )  # fmt: skip
        return await _whole(conn, (await store.open_dispute(conn, account_id, claim))["dispute_id"])

    _print(in_transaction(settings_of(config_file), work), as_json=as_json)


@app.command("list")
def list_disputes(
    state: Annotated[str | None, typer.Option(help="Such as open.")] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Only those whose answer is due.")] = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Disputes; those that are not decided first, by deadline."""
    from bridge.partners.store import dispute as store
    from bridge.telling.reconcile import dispute_json, tell_disputes

    at = datetime.now(UTC)
    rows = with_database(
        settings_of(config_file),
        lambda conn: store.ours(conn, state=state, overdue_at=at if overdue else None),
    )
    found = [dispute_json(row, at) for row in rows]
    print(json.dumps(found) if as_json else tell_disputes(found))


@app.command()
def show(dispute_id: Id, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """A dispute, what was said, and its files."""
    _print(with_database(settings_of(config_file), lambda conn: _whole(conn, dispute_id)), as_json=as_json)


@app.command()
def comment(
    dispute_id: Id, author: Author, text: Text, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """Say something. The other side reads it."""
    from bridge.partners.store import dispute as store

    async def work(conn: Any) -> Any:
        await store.comment(conn, dispute_id, "us", author, text)
        return await _whole(conn, dispute_id)

    _print(in_transaction(settings_of(config_file), work), as_json=as_json)


@app.command()
def attach(
    dispute_id: Id,
    file: Path,
    author: Author,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Keep a file of evidence, at most 10 MiB: PDF, CSV, XLSX, text, PNG, JPEG, ZIP, gzip or a mail."""
    from bridge.partners.store import dispute as store

    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), str(error.strerror), "Name a file that can be read.") from None
    kind, packed = mimetypes.guess_type(file.name)
    media_type = "application/gzip" if packed == "gzip" else kind or "application/octet-stream"

    async def work(conn: Any) -> Any:
        await store.attach(
            conn, dispute_id, "us", author, name=file.name, media_type=media_type, content=content
        )
        return await _whole(conn, dispute_id)

    _print(in_transaction(settings_of(config_file), work), as_json=as_json)


@app.command()
def fetch(
    dispute_id: Id,
    evidence_id: UUID,
    to: Annotated[Path, typer.Option("--to", help="The file to write; it must not be there.")],
    config_file: ConfigFile = None,
) -> None:
    """Write a file of evidence."""
    from bridge.partners.store import dispute as store

    row = with_database(
        settings_of(config_file), lambda conn: store.evidence_file(conn, dispute_id, evidence_id)
    )
    try:
        with to.open("xb") as out:
            out.write(row["content"])
    except OSError as error:
        raise ConfigError(str(to), str(error.strerror), "Name a file that is not there yet.") from None
    print(f"wrote {to}, sha256 {row['sha256'].hex()}")


@app.command()
def decide(
    dispute_id: Id,
    outcome: Annotated[Literal["accepted", "rejected", "settled", "withdrawn"], typer.Argument()],
    author: Author,
    amount: Annotated[
        int | None,
        typer.Option(
            "--amount", parser=amount_micro, metavar="AMOUNT", help="Of settled: what was agreed on."
        ),
    ] = None,
    text: Text = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Give a dispute its outcome. accepted and settled book the correction, once, and nothing takes it back."""
    from bridge.partners.store import dispute as store

    async def work(conn: Any) -> Any:
        await store.decide(conn, dispute_id, outcome, "us", author, agreed_micro=amount, text=text)
        return await _whole(conn, dispute_id)

    _print(in_transaction(settings_of(config_file), work), as_json=as_json)


async def _whole(conn: Any, dispute_id: UUID) -> dict[str, Any]:
    """raises   NotFound"""
    from bridge.partners.store import dispute as store
    from bridge.telling.reconcile import dispute_json

    row = await store.our_dispute(conn, dispute_id)
    notes, files = await store.notes(conn, dispute_id), await store.evidence(conn, dispute_id)
    return dispute_json(row, datetime.now(UTC)) | {
        "notes": [
            {"side": one["side"], "text": one["text"], "state": one["state"], "at": one["at"].isoformat()}
            for one in reversed(notes)
        ],
        "evidence": [
            {
                "evidence_id": str(one["evidence_id"]), "name": one["name"], "media_type": one["media_type"],
                "bytes": one["bytes"], "sha256": one["sha256"].hex(),
            }
            for one in files
        ],
    }  # fmt: skip


def _print(found: Any, *, as_json: bool) -> None:
    from bridge.telling.reconcile import tell_dispute

    print(json.dumps(found) if as_json else tell_dispute(found))
