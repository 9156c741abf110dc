"""Before a run: search for settings (search.py) and for a learning rate (lr_find.py)."""
