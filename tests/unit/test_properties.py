"""Whatever comes from outside is a valid value afterwards, or refused in words; it never breaks anything."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from i4vgen.config import Defaults, GenerationConfig, parameters
from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.media import open_picture, read_video
from i4vgen.models import catalog
from i4vgen.models.catalog import ModelSpec
from i4vgen.storage.runs import open_run
from i4vgen.studio.form import FIELDS, Form, from_query

DEFAULTS = Defaults(num_frames=8, height=64, width=64, max_frames=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
WORDS = st.text(max_size=20) | st.sampled_from(["pocket", "own", "vanilla", "ddim", "fast", "a red car"])
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
PROPERTY = settings(derandomize=True, deadline=None, suppress_health_check=SLOW)
FILE = settings(PROPERTY, max_examples=60)


def check_words(error: Exception) -> None:
    assert str(error) and "\n" not in str(error) and len(str(error)) < 1000


@PROPERTY
@given(st.dictionaries(st.sampled_from([*parameters(), "unknown"]), JSON | WORDS))
def test_a_configuration_is_valid_or_refused(values):
    try:
        config = GenerationConfig.for_model(DEFAULTS, **({"prompt": "a red car"} | values))
    except InvalidInputError as error:
        check_words(error)
    else:
        assert GenerationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        config.to_dict()["prompt"].encode()


@PROPERTY
@given(WORDS, WORDS, st.lists(WORDS, max_size=20).map(tuple), st.lists(WORDS, max_size=5).map(tuple))
def test_a_choice_of_models_is_valid_or_refused(model, base, loras, rewards):
    try:
        entry = catalog.find(ModelSpec(model, base or None, loras, rewards))
    except (InvalidInputError, ModelError) as error:
        check_words(error)
    else:
        assert len(entry.rewards) == len(set(entry.rewards)) and set(entry.rewards) <= set(catalog.REWARDS)


@PROPERTY
@given(st.dictionaries(st.sampled_from(FIELDS), JSON | WORDS))
def test_a_form_always_fits_its_components(values):
    form = Form.of(dict.fromkeys(FIELDS, "") | values)
    fitted, changed = form.fitted(DEFAULTS)
    assert fitted.fitted(DEFAULTS) == (fitted, [])
    assert all(isinstance(name, str) for name in changed)


@PROPERTY
@given(st.dictionaries(st.sampled_from([*FIELDS, "x"]), st.text(max_size=30)))
def test_a_link_is_read_as_far_as_it_can_be(query):
    values, bad = from_query(query)
    assert set(values) | set(bad) == set(query) & set(FIELDS) and not set(values) & set(bad)


@FILE
@given(
    st.dictionaries(
        st.sampled_from(["request", "compare", "model", "stars", "scores", "measures"]), JSON | WORDS
    )
    | JSON
)
def test_a_run_file_holds_a_run_or_is_refused(tmp_path, values):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(values))
    try:
        run = open_run(path)
        run.candidates()
        run.videos()
    except InvalidInputError as error:
        check_words(error)


@FILE
@given(st.binary(max_size=300), st.integers(0, 400), st.booleans())
def test_damaged_files_are_refused(tmp_path, noise, cut, as_zip):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("run.json", noise)
    path = tmp_path / "file"
    path.write_bytes((buffer.getvalue()[:cut] if as_zip else b"") + noise)
    for read in (open_run, open_picture, read_video):
        try:
            read(path)
        except InvalidInputError as error:
            check_words(error)
