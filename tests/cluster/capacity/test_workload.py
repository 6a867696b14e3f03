"""What may be asked of the planner, and what is refused."""

from typing import Any

import pytest

from cluster.capacity.workload import load_workload
from cluster.errors import InvalidInput
from cluster.settings import load_settings
from jobs.capacity.plan import plan_capacity
from tests.support.capacity import MIB_PIXELS, best


def test_small_print_of_a_pool() -> None:
    """What a page costs: its pixels, its text, its multi-vectors, its OCR."""
    cases: dict[str, dict[str, Any]] = {
        "plain": {},
        "small": {"max_pixels": MIB_PIXELS // 2},
        "no text": {"rows_per_page": 1},
        "few cores": {"cpus": 1, "scanned": 1.0},
    }
    rate = {}
    for name, more in cases.items():
        ingest = best("1", gpus="L4:1", pages=1000, **more).ingest
        assert ingest
        rate[name] = ingest.pages_per_s
    assert rate["small"] > rate["plain"] and rate["no text"] > rate["plain"]
    assert rate["few cores"] < 0.5
    scanned = best("1", gpus="L4:1", pages=1000, scanned=1.0)
    plain = best("1", gpus="L4:1", pages=1000)
    assert scanned.ingest and plain.ingest
    assert scanned.ingest.render_cpus > 10 * plain.ingest.render_cpus


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"gpus": "L5:2", "pages": 1}, "no GPU is called 'L5'"),
        ({"gpus": "L4:0", "pages": 1}, "gpus"),
        ({"pages": 1, "deadline": "soon"}, "'soon' is no time"),
        ({"pages": 1, "models": "qwen9"}, "no embedder is called 'qwen9'"),
        ({"pages": 1, "precisions": "int3"}, "int3"),
        ({"pages": 1, "prices": "H1000=2"}, "no GPU is called 'H1000'"),
        ({"pages": 1, "gpus": "CPU:2"}, "alone"),
        ({"pages": 1, "gpus": "CPU,L4"}, "alone"),
        ({"pages": 1, "dimensions": 100_000}, "cannot give 100000"),
        ({"pages": 1, "max_pixels": 10}, "max_pixels must be at least"),
        ({"qps": 1, "p95": "30ms"}, "p95 must be above"),
        ({"qps": 1, "answers": 0}, "answers"),
        ({}, "say what to plan"),
    ],
)
def test_bad_workloads_are_refused_in_one_line(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words) as refused:
        plan_capacity(load_settings(), load_workload(None, **flags))
    assert type(refused.value).__module__ == "cluster.errors"
    assert "\n" not in str(refused.value)


def test_prices_and_own_cards_without_a_pool() -> None:
    plan = best("cheapest", pages=10_000, prices="H100=0.01")
    assert plan.gpus == {"H100": 1} and plan.cost < 0.02
    own: dict[str, Any] = {"MyCard": {"memory_gib": 47, "bf16_tflops": 900, "fp32_tflops": 60}}
    own["MyCard"] |= {"bandwidth_gb_s": 900, "price_per_hour": 0.01}
    assert best("cheapest", pages=10_000, cards=own).gpus == {"MyCard": 1}
    assert best("cheapest", pages=10_000, cards=own, gpus="mycard:2").gpus == {"MyCard": 1}
    with pytest.raises(InvalidInput, match="cards"):
        load_workload(None, pages=1, cards={"My Card (48GB)": own["MyCard"]})
