"""Words that say whether a class is the positive one of two, in the languages of the data sets that are about."""

import re

_POSITIVES = """
    1 + yes y true t positive pos present abnormal ill sick disease diseased pathological pathologic pathology
    malignant malign cancer cancerous carcinoma tumor tumour melanoma pneumonia covid covid19 covid-19 tuberculosis tb
    lesion infected infection metastasis fracture hemorrhage haemorrhage bleeding case patient affected
    ja wahr positiv krank bösartig boesartig auffällig krebs karzinom
    oui o vrai positif malade maligne anormal
    sí si s verdadero positivo positiva enfermo enferma maligno maligna anormal
    sim verdadeiro doente vero malato malata igen да положительный 是 阳性 恶性 はい 陽性 悪性
    wel positief ziek kwaadaardig tak dodatni ano ja evet hasta pozitif
"""
_NEGATIVES = """
    0 - no n false f negative neg absent normal healthy well benign control controls none clear clean uninfected
    unaffected nondiseased nofinding noncancer background
    nein falsch negativ gesund gutartig unauffällig kontrolle keine kein
    non faux négatif negatif sain saine bénin benin bénigne témoin aucun
    falso negativo negativa sano sana saudável benigno benigna
    não nao nem nie нет отрицательный 否 阴性 良性 正常 いいえ 陰性
    nee negatief gezond goedaardig ujemny ne hayır hayir sağlıklı
"""
POSITIVE, NEGATIVE = frozenset(_POSITIVES.split()), frozenset(_NEGATIVES.split())
# Among the names of findings: that there is none. Among the names of classes: what may be no class.
NOTHING = frozenset(
    [
        *("no finding", "no findings", "nofinding", "nofindings", "normal", "healthy", "none", "nothing", "negative"),
        *("no disease", "no abnormality", "unremarkable", "kein befund", "ohne befund", "gesund", "sain", "sano"),
    ]
)
VAGUE = frozenset(["none", "unknown", "unk", "unclear", "uncertain", "unsure", "missing", "?", "-", "n.a.", "nd"])
_NEGATIONS = ("no", "non", "not", "without", "ohne", "kein", "keine", "sans", "sin", "senza", "geen", "healthy")


def side(name: str) -> int:
    """1 for a name that means positive, -1 for one that means negative, 0 for others."""
    if not re.search(r"[^\W\d_]", name):  # -1 is not 1
        return (name.strip() in POSITIVE) - (name.strip() in NEGATIVE)
    words = name.casefold().replace("_", " ").replace("-", " ").split()
    joined = "".join(words)
    for text in (name.casefold().strip(), joined):
        if text in POSITIVE:
            return 1
        if text in NEGATIVE:
            return -1
    if words[0] in _NEGATIONS or (joined.startswith(("non", "not")) and joined[3:] in POSITIVE):
        return -1
    sides = {word in POSITIVE for word in words if word in POSITIVE or word in NEGATIVE}
    return 0 if len(sides) != 1 else 1 if sides.pop() else -1
