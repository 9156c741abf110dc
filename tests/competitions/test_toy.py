import numpy as np
import pandas as pd
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kit.competitions import toy
from kit.evaluate.metrics import roc_auc


def test_it_is_made_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        toy.make(tmp_path / name, train=3, test=2)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 8
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_it_looks_like_pcam(toy_root):
    with Image.open(next((toy_root / "train").iterdir())) as image:
        assert (image.format, image.size, image.mode) == ("TIFF", (96, 96), "RGB")
    assert list(pd.read_csv(toy_root / "sample_submission.csv")) == ["id", "label"]


def test_pixel_means_do_not_tell_the_label(tmp_path):
    toy.make(tmp_path / "many", train=600, test=1)
    table = pd.read_csv(tmp_path / "many" / "train_labels.csv")
    images = [np.asarray(Image.open(tmp_path / "many" / "train" / f"{name}.tif")) for name in table["id"]]
    means = np.stack([image.mean((0, 1)) for image in images])
    model = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky"))
    p = cross_val_predict(model, means, table["label"], cv=5, method="predict_proba")[:, 1:]
    assert roc_auc(table[["label"]].to_numpy(float), p) < 0.58  # chance: .5, standard error .024
