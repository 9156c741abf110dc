"""What boxes are measured by, merged to, cut by and blended to."""
