"""Where we run: host (Kaggle, Colab, local) and devices (backend, precision, compiler)."""
