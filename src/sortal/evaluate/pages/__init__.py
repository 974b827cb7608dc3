"""Pages: one self-contained HTML file from any Report."""
