import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.data.pixels.appearance import NAMES
from kit.data.table.appearance import cluster


def tables(images, seed, per_group=1, sources=3, apart=8.0):
    """Appearance and example rows of images from `sources`, whose colours are so many deviations apart."""
    rng = np.random.default_rng(seed)
    group = np.arange(images) // per_group
    source = group % sources
    centres = rng.normal(0, 1, (sources, len(NAMES)))
    values = apart * centres[source] + rng.normal(0, 1, (images, len(NAMES)))
    ids = [f"i{n:04}" for n in rng.permutation(images)]
    examples = pd.DataFrame({"id": ids, "group": [f"g{g}" for g in group], "bytes": 1000 + source})
    return pd.DataFrame(values, columns=NAMES), examples, source


@given(st.integers(1, 200), st.integers(0, 9), st.integers(1, 9), st.integers(1, 4), st.floats(0, 8))
@settings(max_examples=12, deadline=None)
def test_every_image_in_one_cluster_and_groups_whole(images, seed, per_group, sources, apart):
    appearance, examples, _ = tables(images, seed, per_group, sources, apart)
    found = cluster(appearance, examples)
    assert found.number.shape == (images,)
    sizes = np.bincount(found.number)
    assert len(sizes) == len(found.traits) and sizes.min() > 0 and (np.diff(sizes) <= 0).all()
    assert len(sizes) == 1 or sizes.min() >= max(20, 0.05 * images)
    assert (pd.Series(found.number).groupby(examples["group"]).nunique() == 1).all()


@given(st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_the_order_of_rows_does_not_matter(seed):
    appearance, examples, _ = tables(200, seed, per_group=2)
    order = np.random.default_rng(seed).permutation(200)
    other = cluster(appearance.iloc[order].reset_index(drop=True), examples.iloc[order].reset_index(drop=True))
    assert (other.number == cluster(appearance, examples).number[order]).all()


def test_sources_are_not_mixed():
    appearance, examples, source = tables(400, 1)
    found = cluster(appearance, examples)
    shares = pd.crosstab(found.number, source, normalize="index")
    assert len(shares) >= 3 and (shares.max(axis=1) > 0.99).all()


def test_alike_or_few_images_are_one_cluster():
    appearance, examples, _ = tables(300, 0)
    assert set(cluster(appearance * 0, examples.assign(bytes=1)).number) == {0}
    assert set(cluster(appearance[:50], examples[:50]).number) == {0}


def test_grey_images_by_the_size_of_their_source():
    appearance, examples, _ = tables(300, 0, sources=1, apart=0)
    width = np.where(np.arange(300) < 150, 500, 3000)
    sized = examples.assign(width=width, height=width)
    found = cluster(appearance.assign(chroma=0.0), sized)
    assert "size" in found.traits[0] and "bytes" not in found.traits[0]
    assert "bytes" in cluster(appearance.assign(chroma=0.0), examples).traits[0]
