"""What the RunPod double rents out."""

from __future__ import annotations

import copy
from typing import Any


def gpu(name: str, price: float, most: int, **stock: str) -> dict[str, Any]:
    places = [{"id": place.replace("_", "-"), "name": place, "availability": level} for place, level in stock.items()]
    levels = [place["availability"] for place in places]
    overall = next((level for level in ("HIGH", "MEDIUM", "LOW") if level in levels), "NONE")
    return {
        "id": name,
        "name": name.removeprefix("NVIDIA "),
        "memory": 80,
        "price": {"secure": price, "community": round(price * 0.8, 4)},
        "maxCount": {"secure": most, "community": 2},
        "availability": overall,
        "dataCenters": places,
    }


def cpu(name: str, each: float, memory: float, **stock: str) -> dict[str, Any]:
    places = [{"id": place.replace("_", "-"), "name": place, "availability": level} for place, level in stock.items()]
    return {
        "id": name,
        "name": name,
        "vcpu": {"min": 2, "max": 32},
        "ramGbPerVcpu": memory,
        "price": {"securePerVcpu": each},
        "availability": "HIGH",
        "dataCenters": places,
    }


GPUS = [
    gpu("NVIDIA A40", 0.44, 8, EU_SE_1="LOW", US_KS_2="HIGH", CA_MTL_1="NONE"),
    gpu("NVIDIA A100 80GB PCIe", 1.19, 8, US_KS_2="MEDIUM"),
    gpu("NVIDIA A100-SXM4-80GB", 1.39, 8, US_MD_1="HIGH"),
    gpu("NVIDIA L40S", 0.86, 4, EU_RO_1="NONE"),
]
CPUS = [cpu("cpu3c", 0.03, 2.0, US_KS_2="HIGH", EU_RO_1="LOW"), cpu("cpu5g", 0.05, 4.0, US_KS_2="HIGH")]


def rows(of: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A copy that a test may change."""
    return copy.deepcopy(of)
