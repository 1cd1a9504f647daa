import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musicgen_rl.batch.prompts import COLUMNS, parse, read_prompts
from musicgen_rl.errors import InputError


def table(**columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def test_text_is_a_prompt_a_line_and_its_numbers_count_blank_ones():
    rows = parse(b"\xef\xbb\xbfslow piano\r\n\n  drums, loud \n", "txt", "f")
    assert [(r.where, r.values) for r in rows] == [
        ("f, line 1", {"prompt": "slow piano"}),
        ("f, line 3", {"prompt": "drums, loud"}),
    ]


SAME = {
    "name": "a", "prompt": "slow, sad", "duration_s": 5.0, "seed": 7, "diversity": (0.0, 0.5),
    "guidance_scale": 3.0, "clips": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("csv", b"id,prompt,duration,seed,diversity,guidance,n,mood\n"
                b'a,"slow, sad",5,7,"0,0.5",3,2,low'),
        ("csv", b"id;caption;duration_s;seed;diversity;guidance_scale;n;mood\n"
                b"a;slow, sad;5;7;0,0.5;3;2;low"),
        ("tsv", b"id\ttext\tduration\tseed\tdiversity\tguidance\tclips_per_prompt\tmood\n"
                b"a\tslow, sad\t5\t7\t0, 0.5\t3\t2\tlow\n"),
        ("jsonl", json.dumps({
            "id": "a", "prompt": "slow, sad", "duration": 5, "seed": 7, "diversity": [0, 0.5],
            "guidance": "3", "n": 2, "mood": "low"}).encode()),
        ("parquet", table(id=["a"], prompt=["slow, sad"], duration=[5.0], seed=[7],
                          diversity=[[0.0, 0.5]], guidance=[3.0], n=[2.0], mood=["low"])),
    ],
)  # fmt: skip
def test_all_formats_say_the_same(kind, data):
    (row,) = parse(data, kind, "f")
    assert row.values == SAME
    assert row.attributes == {"mood": "low"}
    assert all(type(row.values[k]) is type(v) for k, v in SAME.items())


def test_empty_cells_set_nothing():
    rows = parse(b"prompt,seed,mood\np,,\n", "csv", "f")
    assert (rows[0].values, rows[0].attributes) == ({"prompt": "p"}, {})
    rows = parse(table(prompt=["p"], seed=[None], duration=[float("nan")]), "parquet", "f")
    assert rows[0].values == {"prompt": "p"}


def test_lines_are_counted_through_quoted_breaks():
    with pytest.raises(InputError, match="f, line 4: seed takes a whole number, got 'x'"):
        parse(b'prompt,seed\n"two\nlines",1\nq,x\n', "csv", "f")


def test_an_emoji_written_as_two_escapes_is_one_character():
    (row,) = parse(b'{"prompt": "p", "title": "\\ud83d\\ude00"}', "jsonl", "f")
    assert row.attributes == {"title": "\N{GRINNING FACE}"}


def test_the_base_can_stand_among_positions():
    (row,) = parse(b'prompt,diversity\np,"base,1"\n', "csv", "f")
    assert row.values["diversity"] == (None, 1.0)


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        ("txt", b"ok\n\xff\n", "line 2: not UTF-8"),
        ("csv", b"words\np\n", "line 1: no column 'prompt'"),
        ("csv", b"prompt,prompt\np,q\n", "twice"),
        ("csv", b"prompt,seed\np\n", "line 2: 1 fields, the header has 2"),
        ("csv", b"prompt,seed\n\na, b,3\n", "line 3: 3 fields"),
        ("csv", b'prompt\n"open\n', "line 2"),
        ("csv", b"prompt,guidence\np,3\n", "did you mean 'guidance'"),
        ("csv", b"prompt,duration\np,inf\n", "line 2: duration takes a number, got 'inf'"),
        ("csv", b"prompt,seed\np,1.5\n", "line 2: seed takes a whole number"),
        ("csv", b"prompt,diversity\np,high\n", "line 2: diversity takes a number, got 'high'"),
        ("csv", b"prompt,seed\n,1\n", "line 2: no prompt"),
        ("jsonl", b'{"prompt": "p"}\n{"prompt": \n', "line 2: not JSON"),
        ("jsonl", b"[1]\n", "line 1: not a JSON object"),
        ("jsonl", b'{"prompt": "p", "seed": 1, "seed": 2}', "the key 'seed' is given twice"),
        ("csv", b'prompt,diversity\np,"0,,1"\n', "line 2: diversity takes a number, got ''"),
        ("jsonl", b'{"prompt": "p", "seed": true}', "line 1: seed takes a whole number"),
        ("jsonl", b'{"prompt": ["p"]}', "line 1: prompt takes text"),
        ("jsonl", b'{"prompt": "p", "duration": NaN}', "line 1: not JSON"),
        ("jsonl", b'{"prompt": "p", "diversity": []}', "got none"),
        (
            "jsonl",
            b'{"prompt": "p"}\n{"prompt": "p", "title": "x \\ud83d"}',
            r"line 2: 'title' holds '\ud83d', which is no character but half of one",
        ),
        ("jsonl", b'{"prompt": "p", "id": "\\ud83d"}', "line 1: 'id' holds"),
        ("jsonl", b'{"prompt": "p \\ude00"}', "line 1: 'prompt' holds"),
        ("jsonl", b'{"prompt": "p", "facts": {"a": ["\\ude00"]}}', "line 1: 'facts' holds"),
        ("jsonl", b'{"prompt": "p", "mood\\ude00": 1}', r"line 1: 'mood\ude00' holds"),
        ("parquet", b"PAR1", "not a readable parquet file"),
        ("parquet", table(words=["p"]), "no column 'prompt'"),
        ("parquet", table(prompt=["p", None]), "row 2: no prompt"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(kind, data, says):
    with pytest.raises(InputError) as told:
        parse(data, kind, "f")
    assert says in str(told.value)
    assert str(told.value).startswith("f")


def test_files_are_told_by_their_ending(tmp_path):
    file = tmp_path / "p.TXT"
    file.write_text("drums\n")
    assert read_prompts(str(file))[0].values == {"prompt": "drums"}
    with pytest.raises(InputError, match="end it in"):
        read_prompts("prompts.doc")
    with pytest.raises(InputError, match="No such file"):
        read_prompts(str(tmp_path / "none.txt"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="holds no prompts"):
        read_prompts(str(tmp_path / "empty.jsonl"))


@pytest.mark.parametrize("data", [b"drums\n", b'\n{"prompt": "drums"}\n'])
def test_standard_input_takes_lines_of_text_or_json(data):
    assert read_prompts("-", lambda: data)[0].values == {"prompt": "drums"}


def test_an_id_given_twice_names_both_lines(tmp_path):
    file = tmp_path / "p.csv"
    file.write_text("id,prompt\na,p\nb,q\na,r\n")
    with pytest.raises(InputError, match=r"line 4: id 'a' is taken already, by .*line 2"):
        read_prompts(str(file))


quiet = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@quiet
@given(
    data=st.binary(max_size=200), kind=st.sampled_from(["txt", "csv", "tsv", "jsonl", "parquet"])
)
def test_any_bytes_give_rows_or_one_sentence(data, kind):
    require_rows_or_sentence(data, kind)


cells = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.lists(st.floats(), max_size=3),
)  # fmt: skip


@quiet
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from([*COLUMNS, "mood", "prompts"]), cells, max_size=6),
        min_size=1, max_size=4,
    ),
)  # fmt: skip
def test_any_values_give_rows_or_one_sentence(rows):
    require_rows_or_sentence("\n".join(json.dumps(r) for r in rows).encode(), "jsonl")
    import csv

    text = io.StringIO()
    writer = csv.writer(text)
    header = sorted({k for r in rows for k in r}) or ["prompt"]
    writer.writerow(header)
    writer.writerows([r.get(h) for h in header] for r in rows)
    require_rows_or_sentence(text.getvalue().encode(), "csv")


@quiet
@given(cut=st.integers(0, 400), flip=st.integers(0, 400))
def test_a_damaged_parquet_file_gives_rows_or_one_sentence(cut, flip):
    data = bytearray(table(prompt=["slow piano", "drums"], seed=[1, 2]))
    if flip < len(data):
        data[flip] ^= 0x55
    require_rows_or_sentence(bytes(data[: len(data) - cut]), "parquet")


def require_rows_or_sentence(data, kind):
    try:
        rows = parse(data, kind, "f")
    except InputError:
        return
    for row in rows:
        assert isinstance(row.values["prompt"], str)
        assert row.values["prompt"]
        assert isinstance(row.values.get("seed", 0), int)
        json.dumps(row.attributes, allow_nan=False, ensure_ascii=False).encode()
