"""Any image file -> uint8 array."""
