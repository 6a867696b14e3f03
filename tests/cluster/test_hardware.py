"""Cards by the names that drivers have for them."""

from cluster.hardware import kind_of


def test_cards_by_the_drivers_names() -> None:
    assert kind_of("NVIDIA L4") == "L4"
    assert kind_of("NVIDIA L40S") == "L40S"
    assert kind_of("NVIDIA A100-SXM4-80GB") == "A100-80GB"
    assert kind_of("NVIDIA H100 80GB HBM3") == "H100"
    assert kind_of("NVIDIA GeForce RTX 4090") == "RTX4090"
    assert kind_of("Some Card") == "Some Card"
