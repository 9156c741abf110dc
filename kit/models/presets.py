"""Pre-trained networks of Hugging Face: what is known about each, and from where.

Facts are as their sources gave them in 2026; sizes are those of the weights' file, or four bytes a parameter. A licence
may change with the revision: what counts is the page of the one that is downloaded.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

CHEST_XRAY14 = "NIH ChestX-ray14"


@dataclass(frozen=True)
class Preset:
    """One of them: `repository` is OWNER/NAME, `side` the input's in pixels, `seen` the public sets it was trained on.

    `needs` is what it needs beside KerasHub and a download; `readable`, whether KerasHub reads it. All were trained
    without labels.
    """

    repository: str
    domain: str
    licence: str
    megabytes: int
    side: int
    source: str
    seen: tuple[str, ...] = ()
    needs: str = ""
    readable: bool = True

    @property
    def name(self) -> str:
        """What `model.name` takes."""
        return f"hub/hf://{self.repository}"


_GATED = "accepting its terms"
PRESETS = (
    Preset(
        "microsoft/rad-dino",
        "chest",
        "MIT, for research only",  # earlier revisions: MSRLA, for research only
        346,
        518,
        "its model card; arXiv:2401.10815",
        seen=("MIMIC-CXR", "CheXpert", CHEST_XRAY14, "PadChest", "BRAX"),
    ),
    Preset(
        "histai/hibou-b",
        "tissue",
        "Apache-2.0",
        343,
        224,
        "github.com/HistAI/hibou; arXiv:2406.05074",  # a million slides of its own
    ),
    Preset(
        "kaiko-ai/midnight",
        "tissue",
        "MIT",
        4500,
        224,
        "its model card; arXiv:2504.05186",
        seen=("TCGA",),
        needs="image_mean and image_std .5",  # without preprocessor_config.json
    ),
    Preset(
        "owkin/phikon-v2",
        "tissue",
        "Owkin's, NON-COMMERCIAL",
        1210,
        224,
        "its model card; arXiv:2409.09173",
        seen=("TCGA", "CPTAC", "GTEx"),
    ),
    Preset(
        "MahmoodLab/UNI",
        "tissue",
        "CC-BY-NC-ND-4.0, NON-COMMERCIAL",
        1213,
        224,
        "github.com/mahmoodlab/UNI",
        needs=_GATED,
        readable=False,  # a ViT in timm's layout
    ),
    Preset("facebook/dinov2-small", "natural", "Apache-2.0", 88, 224, "its model card; arXiv:2304.07193"),
    Preset("facebook/dinov2-base", "natural", "Apache-2.0", 346, 224, "its model card; arXiv:2304.07193"),
    Preset(
        "facebook/dinov3-vits16-pretrain-lvd1689m",
        "natural",
        "Meta's DINOv3 licence",
        86,
        224,
        "its LICENSE.md; arXiv:2508.10104",
        needs=_GATED,
    ),
)


def find(name: str) -> Preset | None:
    """The preset that a `model.name` means: its repository, or a folder that is named after it; None of others.

    A folder is `NAME`, `OWNER_NAME`, `OWNER--NAME` or, in Hugging Face's cache, `models--OWNER--NAME/...`; case does
    not count.
    """
    parts = PurePosixPath(name.lower().removeprefix("hub/").removeprefix("hf://").replace("\\", "/")).parts
    for preset in PRESETS:
        owner, own = preset.repository.lower().split("/")
        if {own, f"{owner}_{own}", f"{owner}--{own}", f"models--{owner}--{own}"} & set(parts):
            return preset
    return None


def seen_before(names: Iterable[str], images: str) -> list[str]:
    """A warning for each of the networks `names` that was trained on the public set `images`, without its labels."""
    presets = {preset.repository: preset for preset in map(find, names) if preset}
    return [
        f"{preset.repository} was pre-trained, without labels, on {images}, and so on images that are held out here: "
        "on images that it has never seen, scores may be worse"
        for preset in presets.values()
        if images and images in preset.seen
    ]
