"""TAP3, encoded by the rules of BER from a module that the operator supplies: its text is its owner's, not ours.

Only the names of the elements are known here, as carriers' public integration guides tell them. What a module asks for
beyond them is told as an error when the first file is made.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from importlib import import_module
from typing import Any, Final

from bridge.errors import ConfigError, Invalid
from bridge.exports.columns import COLUMNS
from bridge.exports.lines import Lines, cells
from bridge.exports.manifest import Manifest
from bridge.exports.streamed import Sink, WrittenFile
from bridge.telephony.money import PLACES, parse_micro

ROWS_MAX: Final = 100_000  # lengths stand before contents in BER: a file is made in memory, all of it
SETTING: Final = "exports.tap_schema"
_WHOLE: Final = "DataInterChange"  # a batch, or the notification that there is nothing to charge
_UTC: Final = b"+0000"
_SPECIFICATION: Final = 3
_RELEASE: Final = 12


@cache
def compiled(schema: str) -> Any:
    """The operator's module. raises ConfigError: there is none, it is no module, or asn1tools is not installed"""
    if not schema:
        raise ConfigError(
            SETTING,
            "is empty",
            "Write the path of the ASN.1 module with the TAP3 types, or choose another format.",
        )
    try:
        asn1tools = import_module("asn1tools")
    except ImportError:
        raise ConfigError("format tap3", "needs asn1tools", "Install callbridge[tap].") from None
    try:
        module = asn1tools.compile_files([schema], "ber")
    except (OSError, ValueError, UnicodeError, asn1tools.errors.Error) as error:
        raise ConfigError(SETTING, f"{schema} cannot be used ({error})", "Name an ASN.1 module.") from None
    if _WHOLE not in module.types:
        raise ConfigError(SETTING, f"{schema} has no type {_WHOLE}", "Name the module with the TAP3 types.")
    return module


class Tap:
    def __init__(self, file: WrittenFile, about: Manifest, schema: str) -> None:
        self._file, self._about, self._schema = file, about, schema
        self._module = compiled(schema)
        self._lines = Lines()
        self._calls: list[Any] = []
        self._charge_micro = 0
        self._answers: list[str] = []

    @property
    def rows(self) -> int:
        return len(self._calls)

    def block(self, csv: bytes) -> None:
        for values in cells(self._lines.of(csv)):
            row = dict(zip(COLUMNS, values, strict=True))
            if not row["answer_at"]:
                raise Invalid("TAP3 files are of calls. Choose another format for messages and data.")
            self._charge_micro += parse_micro(row["amount"])
            self._answers.append(row["answer_at"])
            self._calls.append(("mobileOriginatedCall", _call(row)))
            if len(self._calls) > ROWS_MAX:
                raise Invalid(f"A TAP3 file has {ROWS_MAX} calls at most. Choose a shorter period.")

    def close(self) -> None:
        self._lines.end()
        told = ("transferBatch", self._batch()) if self._calls else ("notification", self._head())
        try:
            self._file.write(self._module.encode(_WHOLE, told))
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "asn1tools":
                raise
            fix = "What it asks for is not known here; use a module of TAP 3.12."
            raise ConfigError(SETTING, f"{self._schema} does not fit ({error})", fix) from error

    def _head(self) -> dict[str, Any]:
        """There is no clock in it: a file is made when its period ends."""
        about = self._about
        end = _stamp(about.to_at)
        return {
            "sender": about.sender.encode(),
            "recipient": about.recipient.encode(),
            "fileSequenceNumber": f"{(about.file_no or 0) % 100_000:05d}".encode(),
            "fileCreationTimeStamp": end,
            "transferCutOffTimeStamp": end,
            "fileAvailableTimeStamp": end,
            "specificationVersionNumber": _SPECIFICATION,
            "releaseVersionNumber": _RELEASE,
        }

    def _batch(self) -> dict[str, Any]:
        units = sorted(self._about.totals.amount_micro)
        if len(units) != 1:
            raise Invalid(f"A TAP3 file has one currency, not {', '.join(units)}. Choose another format.")
        return {
            "batchControlInfo": self._head(),
            "accountingInfo": {"localCurrency": units[0].encode(), "tapDecimalPlaces": PLACES},
            "callEventDetails": self._calls,
            "auditControlInfo": {
                "earliestCallTimeStamp": _stamp(datetime.fromisoformat(min(self._answers))),
                "latestCallTimeStamp": _stamp(datetime.fromisoformat(max(self._answers))),
                "totalCharge": self._charge_micro,
                "totalTaxValue": 0,
                "totalDiscountValue": 0,
                "callEventDetailsCount": len(self._calls),
            },
        }


def _call(row: dict[str, str]) -> dict[str, Any]:
    return {
        "basicCallInformation": {
            "callingNumber": row["cli_presented"].encode(),
            "destination": {"calledNumber": row["cld_routed"].encode()},
            "callEventStartTimeStamp": _stamp(datetime.fromisoformat(row["answer_at"])),
            "totalCallEventDuration": int(row["billed_s"]),
            "callReference": bytes.fromhex(row["call_id"]),
        },
        "basicServiceUsedList": [
            {
                "basicService": {"serviceCode": ("teleServiceCode", b"11")},
                "chargeInformationList": [
                    {
                        "chargedItem": b"D",
                        "chargeDetailList": [{"chargeType": b"00", "charge": parse_micro(row["amount"])}],
                    }
                ],
            }
        ],
        "operatorSpecInformation": [row["record_id"].encode()],
    }


def _stamp(at: datetime) -> dict[str, bytes]:
    return {"localTimeStamp": at.strftime("%Y%m%d%H%M%S").encode(), "utcTimeOffset": _UTC}


def sink(file: WrittenFile, about: Manifest, schema: str) -> Sink:
    return Tap(file, about, schema)
