"""The benchmark of int8 products times the same products in every way."""

import copy

import int8
import pytest
import torch
from bench.floor import step_weights
from bench.quantize import int8_available, quantize_linears
from bench.shapes import TINY
from torch import nn


def test_the_products_are_those_of_a_step():
    assert sum(p.numel() for p in int8.Products(TINY).parameters()) == step_weights(TINY)


@pytest.mark.skipif(not int8_available(), reason="this torch has no fbgemm")
def test_all_ways_compute_the_same():
    products = int8.Products(TINY).eval().requires_grad_(False)
    inputs = torch.randn(3, TINY.hidden_size), torch.randn(3, TINY.ffn_size)
    packed, quantized = copy.deepcopy(products), copy.deepcopy(products)
    packed.layers = nn.ModuleList(int8.PackedLinear(layer) for layer in products.layers)
    quantize_linears(quantized)
    with torch.inference_mode():
        expected = torch.cat([y.flatten() for y in products(*inputs)])
        for module in (packed, quantized):
            got = torch.cat([y.flatten() for y in module(*inputs)])
            assert 0 < (got - expected).norm() / expected.norm() < 0.02


def test_every_way_has_its_row_and_the_page_all_of_them(monkeypatch):
    monkeypatch.setattr(int8, "_torchao", lambda: None)
    sections = {"1": int8.measure(TINY, 1, 2)}
    rows = sections["1"]["rows"]
    assert [row["name"] for row in rows][:2] == ["ours, int8", "torch, fp32"]
    assert all(0 < row["min_ms"] <= row["median_ms"] for row in rows)
    assert "not installed" in sections["1"]["notes"][0]
    page = int8.page({
        "command": "c", "date": "d", "commit": "e", "weights": 1, "sections": sections,
        "machine": {"cpu": "f", "flags": [], "cores": 1, "load_before": [0.0]},
        "versions": {"torch": "1", "torchao": None},
    })  # fmt: skip
    assert all(f"| {row['name']} |" in page for row in rows)
