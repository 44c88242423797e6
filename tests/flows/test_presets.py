"""Every deployment of prefect.yaml, held against its flow's signature."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS: list[dict[str, Any]] = PROJECT["deployments"]


def flow_of(deployment: dict[str, Any]) -> Flow[Any, Any]:
    module, _, name = deployment["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: f"{d['entrypoint'].rpartition('.')[2]}-{d['name']}")
def test_a_preset_fits_its_flow(deployment: dict[str, Any]) -> None:
    flow_of(deployment).validate_parameters(deployment.get("parameters") or {})


def test_a_misspelt_preset_would_be_noticed() -> None:
    with pytest.raises(Exception, match="epoch"):
        flow_of(DEPLOYMENTS[0]).validate_parameters({"fit": {"epoch": 3}})


@pytest.mark.parametrize("flow", list(dict.fromkeys(flow_of(d) for d in DEPLOYMENTS)), ids=lambda f: f.name)
def test_every_flow_has_its_three_presets_and_a_form(flow: Flow[Any, Any]) -> None:
    names = [d["name"] for d in DEPLOYMENTS if flow_of(d) is flow]
    assert {"smoke", "default", "full"} <= set(names)
    schema = parameter_schema(flow)
    for parameter in schema.properties.values():
        definition = schema.definitions[re.split("/", parameter["allOf"][0]["$ref"] if "allOf" in parameter else parameter["$ref"])[-1]]
        assert all("description" in field for field in definition["properties"].values())


def test_schedules_can_be_told_apart_and_none_starts_by_surprise() -> None:
    schedules = [schedule for deployment in DEPLOYMENTS for schedule in deployment["schedules"]]
    assert schedules, "a nightly schedule is promised"
    assert all(schedule["slug"] and schedule["active"] is False for schedule in schedules)
