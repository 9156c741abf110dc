"""What a model looked at: Grad-CAM, occlusion, and how far such maps can be trusted. A model and images; no files."""
