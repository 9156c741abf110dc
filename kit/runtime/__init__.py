"""Where we run: the session (Kaggle, Colab, local) and its devices (backend, precision, compiler)."""
