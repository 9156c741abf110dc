"""What the cells of a label column mean: unknown, 0 or 1, a probability, one class or several."""

from collections.abc import Sequence

from kit.errors import ConfigError, nearest

_POSITIVE = frozenset(
    """
    1 + yes y true t positive pos present abnormal ill sick disease diseased pathological pathologic pathology
    malignant malign cancer cancerous carcinoma tumor tumour melanoma pneumonia covid covid19 covid-19 tuberculosis tb
    lesion infected infection metastasis fracture hemorrhage haemorrhage bleeding case patient affected
    ja wahr positiv krank bösartig boesartig auffällig krebs karzinom
    oui o vrai positif malade maligne anormal
    sí si s verdadero positivo positiva enfermo enferma maligno maligna anormal
    sim verdadeiro doente vero malato malata igen да положительный 是 阳性 恶性 はい 陽性 悪性
    wel positief ziek kwaadaardig tak dodatni ano ja evet hasta pozitif
    """.split()
)
_NEGATIVE = frozenset(
    """
    0 - no n false f negative neg absent normal healthy well benign control controls none clear clean uninfected
    unaffected nondiseased nofinding noncancer background
    nein falsch negativ gesund gutartig unauffällig kontrolle keine kein
    non faux négatif negatif sain saine bénin benin bénigne témoin aucun
    falso negativo negativa sano sana saudável benigno benigna
    não nao nem nie нет отрицательный 否 阴性 良性 正常 いいえ 陰性
    nee negatief gezond goedaardig ujemny ne hayır hayir sağlıklı
    """.split()
)
_NEGATIONS = ("no", "non", "not", "without", "ohne", "kein", "keine", "sans", "sin", "senza", "geen", "healthy")


def positive_class(classes: Sequence[str], target: str | None) -> str:
    """The positive one of two classes: `target`, or the one whose name says so ("malignant", "ja", "1").

    Raises ConfigError for a target that is none of the two, and where names leave it open.
    """
    first, second = classes
    if target is not None:
        if target not in classes:
            raise ConfigError(f"target = {target!r} is not one of the classes{nearest(target, classes)}")
        return target
    sides = [_side(name) for name in classes]
    if sides[0] == sides[1] or (0 in sides and 1 in map(len, classes)):  # f and m are not false and something
        raise ConfigError(
            f"which of the classes {first!r} and {second!r} is the positive one, whose probability is predicted? "
            f"Say --set target={_quoted(first)} or --set target={_quoted(second)}"
        )
    return first if sides[0] > sides[1] else second


def _side(name: str) -> int:
    """1 for a name that means positive, -1 for one that means negative, 0 for others."""
    words = name.casefold().replace("_", " ").replace("-", " ").split()
    joined = "".join(words)
    for text in (name.casefold().strip(), joined):
        if text in _POSITIVE:
            return 1
        if text in _NEGATIVE:
            return -1
    if any(word in _NEGATIONS for word in words[:1]) or (joined.startswith(("non", "not")) and joined[3:] in _POSITIVE):
        return -1
    sides = {word in _POSITIVE for word in words if word in _POSITIVE or word in _NEGATIVE}
    return 0 if len(sides) != 1 else 1 if sides.pop() else -1


def _quoted(name: str) -> str:
    return name if name.isalnum() else f"'{name}'"


def is_class_word(name: str) -> bool:
    """Whether a name says by itself that something is there or not, as "malignant", "normal" and "0" do."""
    return _side(name) != 0
