"""Networks that find boxes."""
