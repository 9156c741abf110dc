"""Figures, pictures and one-file HTML pages, from scores, tables and arrays; no Keras."""
