"""The table of a sweep."""

from dlarch.sweep.report import Row, spread


def test_a_column_is_a_metric_or_a_fact_of_the_record():
    records = [
        {"metrics": {"test/bleu": bleu}, "parameters": 13_898_501, "minutes": 1.5}
        for bleu in (20.0, 22.0)
    ]
    row = Row("LSTM", tuple(records), failed=0, left=0)
    assert spread(row.values("test/bleu")) == "21.0000 ± 1.4142"
    assert spread(row.values("parameters")) == "13,898,501"
    assert spread(row.values("minutes")) == "1.5000 ± 0.0000"
    assert spread(row.values("test/accuracy")) == "-"
