"""OCR quality estimation: features of a page image, a predictor and its files."""
