"""Every backbone of keras.applications under a head, with the preprocessing its ImageNet weights expect.

File names and checksums are for weights found offline; Keras has its own (a test compares them). Licences are those of
the weights, from https://keras.io/api/applications/.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from kit.lazy import lazy
from kit.models.cards import Published
from kit.models.registry import register_backbone

if TYPE_CHECKING:
    import keras
else:
    keras = lazy("keras")
layers = lazy("keras.layers")

_KERNELS = "_weights_tf_dim_ordering_tf_kernels_notop.h5"

# (our name, Keras's, preprocessing, side, parameters with one output: total and trainable, published file: name, checksum,
# megabytes (4 bytes a parameter))
# fmt: off
_TABLE = [
    ("convnext_tiny", "ConvNeXtTiny", "own", 224, (28_608_609, 28_608_609), "convnext_tiny_notop.h5", "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1", 111),
    ("convnext_small", "ConvNeXtSmall", "own", 224, (50_243_169, 50_243_169), "convnext_small_notop.h5", "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab", 198),
    ("convnext_base", "ConvNeXtBase", "own", 224, (88_617_089, 88_617_089), "convnext_base_notop.h5", "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45", 350),
    ("convnext_large", "ConvNeXtLarge", "own", 224, (197_805_249, 197_805_249), "convnext_large_notop.h5", "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd", 785),
    ("convnext_xlarge", "ConvNeXtXLarge", "own", 224, (350_247_169, 350_247_169), "convnext_xlarge_notop.h5", "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05", 1393),
    ("densenet121", "DenseNet121", "torch", 224, (8_088_129, 8_004_481), "densenet121" + _KERNELS, "30ee3e1110167f948a6b9946edeeb738", 28),
    ("densenet169", "DenseNet169", "torch", 224, (14_348_865, 14_190_465), "densenet169" + _KERNELS, "b8c4d4c20dd625c148057b9ff1c1176b", 51),
    ("densenet201", "DenseNet201", "torch", 224, (20_290_113, 20_061_057), "densenet201" + _KERNELS, "c13680b51ded0fb44dff2d8f86ac8bb1", 73),
    ("efficientnetb0", "EfficientNetB0", "own", 224, (5_362_340, 5_320_317), "efficientnetb0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d", 16),
    ("efficientnetb1", "EfficientNetB1", "own", 240, (7_888_008, 7_825_953), "efficientnetb1_notop.h5", "74c4e6b3e1f6a1eea24c589628592432", 26),
    ("efficientnetb2", "EfficientNetB2", "own", 260, (9_212_410, 9_144_835), "efficientnetb2_notop.h5", "111f8e2ac8aa800a7a99e3239f7bfb39", 31),
    ("efficientnetb3", "EfficientNetB3", "own", 300, (12_358_448, 12_271_145), "efficientnetb3_notop.h5", "af6d107764bb5b1abb91932881670226", 43),
    ("efficientnetb4", "EfficientNetB4", "own", 380, (19_510_880, 19_385_673), "efficientnetb4_notop.h5", "ebc24e6d6c33eaebbd558eafbeedf1ba", 71),
    ("efficientnetb5", "EfficientNetB5", "own", 456, (30_612_728, 30_439_985), "efficientnetb5_notop.h5", "38879255a25d3c92d5e44e04ae6cec6f", 114),
    ("efficientnetb6", "EfficientNetB6", "own", 528, (43_321_488, 43_097_049), "efficientnetb6_notop.h5", "9ecce42647a20130c1f39a5d4cb75743", 164),
    ("efficientnetb7", "EfficientNetB7", "own", 600, (66_721_176, 66_410_449), "efficientnetb7_notop.h5", "cbcfe4450ddf6f3ad90b1b398090fe4a", 256),
    ("efficientnetv2b0", "EfficientNetV2B0", "own", 224, (7_232_081, 7_171_473), "efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff", 24),
    ("efficientnetv2b1", "EfficientNetV2B1", "own", 240, (8_243_893, 8_172_821), "efficientnetv2-b1_notop.h5", "0e80663031ca32d657f9caa404b6ec37", 28),
    ("efficientnetv2b2", "EfficientNetV2B2", "own", 260, (10_213_215, 10_130_927), "efficientnetv2-b2_notop.h5", "1dfe2e7a5d45b6632553a8961ea609eb", 35),
    ("efficientnetv2b3", "EfficientNetV2B3", "own", 300, (14_505_535, 14_396_319), "efficientnetv2-b3_notop.h5", "f6abf7b5849ac99a89b50dd3fd532856", 52),
    ("efficientnetv2s", "EfficientNetV2S", "own", 384, (21_644_129, 21_490_257), "efficientnetv2-s_notop.h5", "af0682fb74e8c54910f2d4393339c070", 81),
    ("efficientnetv2m", "EfficientNetV2M", "own", 480, (54_463_157, 54_171_125), "efficientnetv2-m_notop.h5", "1b8dc055df72dde80d614482840fe342", 213),
    ("efficientnetv2l", "EfficientNetV2L", "own", 480, (119_059_617, 118_547_041), "efficientnetv2-l_notop.h5", "b0b66b5c863aef5b46e8608fe1711615", 471),
    ("inception_resnet_v2", "InceptionResNetV2", "tf", 299, (55_911_649, 55_851_105), "inception_resnet_v2" + _KERNELS, "d19885ff4a710c122648d3b5c3b684e4", 217),
    ("inception_v3", "InceptionV3", "tf", 299, (23_901_985, 23_867_553), "inception_v3" + _KERNELS, "bcbd6486424b2319ff4ef7d526e38f63", 87),
    ("mobilenet", "MobileNet", "tf", 224, (4_279_489, 4_257_601), "mobilenet_1_0_224_tf_no_top.h5", None, 13),
    ("mobilenet_v2", "MobileNetV2", "tf", 224, (3_570_753, 3_536_641), "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", None, 9),
    ("mobilenet_v3_large", "MobileNetV3Large", "own", 224, (3_981_441, 3_957_041), "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5", "07fb09a5933dd0c8eaafa16978110389", 12),
    ("mobilenet_v3_small", "MobileNetV3Small", "own", 224, (1_530_993, 1_518_881), "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", "d3e8ec802a04aa4fc771ee12a9a9b836", 4),
    ("nasnet_large", "NASNetLarge", "tf", 331, (89_047_635, 88_850_967), "nasnet_large_no_top.h5", "d81d89dc07e6e56530c4e77faddd61b5", 340),
    ("nasnet_mobile", "NASNetMobile", "tf", 224, (5_353_109, 5_316_371), "nasnet_mobile_no_top.h5", "1ed92395b5b598bdda52abe5c0dbfd63", 17),
    ("resnet50", "ResNet50", "caffe", 224, (25_686_913, 25_633_793), "resnet50" + _KERNELS, "4d473c1dd8becc155b73f8504c6f6626", 94),
    ("resnet101", "ResNet101", "caffe", 224, (44_757_377, 44_652_033), "resnet101" + _KERNELS, "88cf7a10940856eca736dc7b7e228a21", 171),
    ("resnet152", "ResNet152", "caffe", 224, (60_470_145, 60_318_721), "resnet152" + _KERNELS, "ee4c566cf9a93f14d82f913c2dc6dd0c", 233),
    ("resnet50v2", "ResNet50V2", "tf", 224, (25_664_001, 25_618_561), "resnet50v2" + _KERNELS, "fac2f116257151a9d068a22e544a4917", 94),
    ("resnet101v2", "ResNet101V2", "tf", 224, (44_725_761, 44_628_097), "resnet101v2" + _KERNELS, "c0ed64b8031c3730f411d2eb4eea35b5", 171),
    ("resnet152v2", "ResNet152V2", "tf", 224, (60_430_849, 60_287_105), "resnet152v2" + _KERNELS, "ed17cf2e0169df9d443503ef94b23b33", 233),
    ("vgg16", "VGG16", "caffe", 224, (15_241_025, 15_241_025), "vgg16" + _KERNELS, "6d6bbae143d832006294945121d1f1fc", 59),
    ("vgg19", "VGG19", "caffe", 224, (20_550_721, 20_550_721), "vgg19" + _KERNELS, "253f8cb515780f3b799900260a226db6", 80),
    ("xception", "Xception", "tf", 299, (22_960_681, 22_906_153), "xception" + _KERNELS, "b0042744bf5b25fce3cb969f33bebb97", 83),
]
# fmt: on
_LICENCES = {"vgg": "CC BY 4.0", "resnet": "MIT", "densenet": "BSD 3-Clause", "xception": "MIT", "convnext": "MIT"}


def preprocess(x: Any, way: str) -> Any:
    """RGB in 0..255 as the weights expect it: `keras.applications.imagenet_utils.preprocess_input`, in layers.

    caffe: BGR minus the mean in grey levels · tf: -1..1 · torch: 0..1, then standardised by mean and deviation ·
    own: unchanged, since the network scales its input.
    """
    if way == "caffe":
        return layers.Rescaling(1.0, offset=[-123.68, -116.779, -103.939], name="preprocess")(x)[..., ::-1]
    if way == "tf":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocess")(x)
    if way == "torch":
        mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        scale, offset = [1 / (255 * d) for d in deviation], [-m / d for m, d in zip(mean, deviation, strict=True)]
        return layers.Rescaling(scale, offset=offset, name="preprocess")(x)
    return x


def _backbone(shape: tuple[int, int, int], application: str, weights: str | None) -> keras.Model:
    build = getattr(keras.applications, application)
    return build(include_top=False, weights=weights, input_shape=shape)


def _downloaded(application: str) -> keras.Model:
    return _backbone((224, 224, 3), application, "imagenet")  # without the top, weights fit any size


for _name, _class, _way, _side, _parameters, _file, _sum, _megabytes in _TABLE:
    register_backbone(
        _name,
        partial(_backbone, application=_class, weights=None),
        partial(preprocess, way=_way),
        size=_side,
        weights="imagenet",
        parameters=_parameters,
        licence=next((text for start, text in _LICENCES.items() if _name.startswith(start)), "Apache-2.0"),
        source=f"keras.applications.{_class}",
        published=Published(_file, _sum, partial(_downloaded, _class), megabytes=_megabytes),
    )
