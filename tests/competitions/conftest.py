"""Small raw folders in the layouts of the competitions; each image a little grey picture of its own."""

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit


def picture(name, size=16):
    """A (size, size) uint8 picture that depends on the name alone."""
    return np.random.default_rng(sum(map(ord, name))).integers(0, 256, (size, size), np.uint8)


def encoded(pixels, kind):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_dicom(path, pixels, **header):
    """A JPEG-baseline DICOM as RSNA's are."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = encapsulate([encoded(pixels, "JPEG")])
    with pydicom.config.disable_value_validation():
        for name, value in header.items():
            setattr(dataset, name, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def write_images(tmp_path):
    """A function that writes pictures at some paths below a raw folder, and returns the folder."""

    def write(*names, root=tmp_path / "raw"):
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture(name), {".png": "PNG", ".jpeg": "JPEG"}[path.suffix]))
        return root

    return write


@pytest.fixture
def rsna_root(tmp_path):
    """Six training and two test patients: p0 and p1 with boxes, p2 neither normal nor opaque, the others normal."""
    root = tmp_path / "rsna"
    for n in range(8):
        folder = "stage_2_train_images" if n < 6 else "stage_2_test_images"
        age = ("058Y", "62", "130Y", "011M", "", "abc", "040Y", "041Y")[n]
        write_dicom(
            root / folder / f"p{n}.dcm",
            picture(f"p{n}", 64),
            PatientSex="M",
            PatientAge=age,
            ViewPosition="PA",
            PixelSpacing=[0.143, 0.143],
            PatientName="Doe^Jane",
        )
    boxes = ["p0,1,2,30,40,1", "p0,33,2,31,62,1", "p1,0,0,64,64,1", *(f"p{n},,,,,0" for n in range(2, 6))]
    classes = ["p0,Lung Opacity", "p0,Lung Opacity", "p1,Lung Opacity", "p2,No Lung Opacity / Not Normal"]
    classes += [f"p{n},Normal" for n in range(3, 6)]
    (root / "stage_2_train_labels.csv").write_text("\n".join(["patientId,x,y,width,height,Target", *boxes]) + "\n")
    (root / "stage_2_detailed_class_info.csv").write_text("\n".join(["patientId,class", *classes]) + "\n")
    sample = ["patientId,PredictionString", "p6,0.5 0 0 100 100", "p7,0.5 0 0 100 100"]
    (root / "stage_2_sample_submission.csv").write_text("\n".join(sample) + "\n")
    return root
