from __future__ import annotations
from tests.chaos.conftest import Build


def test_precision(build: Build) -> None:
    house = build(calls={"slice_s": 2, "slice_lead_s": 1.5})
    for i in range(8):
        talk = house.talk(house.payer(3))
        talk.well()
        told = house.charged_once(talk)
        print(
            told["talk_ms"], round(talk.app_s() * 1000, 1), round(talk.carrier_s() * 1000, 1), told["charge"]
        )
