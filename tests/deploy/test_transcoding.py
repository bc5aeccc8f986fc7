"""The documented HTTP paths: they are annotations of the protos, each once, and Envoy knows the services.

No transcoder runs here: what is held is what one reads. tests/polyglot/test_gateway.py runs one.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor

from points_grpc.rpc.server import SERVICES

ROOT = Path(__file__).parents[2]
ENVOY = yaml.safe_load((ROOT / "deploy" / "envoy.yaml").read_text())

DOCUMENTED = {
    ("post", "/v2/points/isTransferrable"): "CheckTransfer",
    ("post", "/v2/points/isTransferable"): "CheckTransfer",
    ("post", "/v2/points/issuePointsTransferOtp"): "IssueTransferOtp",
    ("post", "/v2/points/transfer"): "TransferPoints",
    ("get", "/v2/points/transfer"): "ListTransfers",
    ("get", "/v1.1/points/isredeemable"): "CheckRedemption",
    ("post", "/v1.1/points/isredeemable"): "CheckRedemption",
    ("get", "/v1.1/points/validationcode"): "IssueRedemptionOtp",
    ("post", "/v1.1/points/validationcode"): "IssueRedemptionOtp",
    ("post", "/v1.1/points/redeem"): "RedeemPoints",
    ("post", "/v2/points/reverse"): "ReverseRedemption",
    ("post", "/v2/customers/bulk/manualCurrencyAllocate"): "BatchIssuePoints",
    ("post", "/v2/customers/lookup/negativePointsAdjustment"): "AdjustPoints",
}


def bindings() -> list[tuple[tuple[str, str], str, HttpRule, Descriptor]]:
    """Verb and path, RPC, rule and request of every annotation."""
    found = []
    for service in SERVICES:
        for method in service.methods:
            options = method.GetOptions()
            if not options.HasExtension(annotations_pb2.http):
                continue
            rule = options.Extensions[annotations_pb2.http]
            for one in (rule, *rule.additional_bindings):
                verb = one.WhichOneof("pattern")
                found.append(((verb, getattr(one, verb)), method.name, one, method.input_type))
    return found


def test_the_documented_paths() -> None:
    """Each leads to its RPC, and to one alone; there are no others."""
    found = bindings()

    assert DOCUMENTED == {place: rpc for place, rpc, _, _ in found}
    assert len(DOCUMENTED) == len(found)


def test_bodies() -> None:
    """What is posted is the whole request; what is asked for by GET has none. No path holds a variable."""
    assert {("post", "*"), ("get", "")} == {(verb, rule.body) for (verb, _), _, rule, _ in bindings()}
    assert not [path for (_, path), _, _, _ in bindings() if re.search(r"[{}]", path)]


def test_envoy_serves_those_services() -> None:
    """Those of the annotated RPCs, routed to a cluster that speaks HTTP/2."""
    listener, cluster = ENVOY["static_resources"]["listeners"][0], ENVOY["static_resources"]["clusters"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    transcoder, router = manager["http_filters"]
    annotated = {service.full_name for service in SERVICES if any(is_annotated(one) for one in service.methods)}
    route = manager["route_config"]["virtual_hosts"][0]["routes"][0]

    assert sorted(annotated) == sorted(transcoder["typed_config"]["services"])
    assert "envoy.filters.http.router" == router["name"]
    assert cluster["name"] == route["route"]["cluster"]
    assert all(f"/{one}".startswith(route["match"]["prefix"]) for one in annotated)
    assert "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" in cluster["typed_extension_protocol_options"]


def is_annotated(method: object) -> bool:
    """Whether an RPC can be called by HTTP."""
    return bool(method.GetOptions().HasExtension(annotations_pb2.http))  # type: ignore[attr-defined]
