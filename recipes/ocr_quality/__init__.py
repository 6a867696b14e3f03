"""The made-up forms, letters and receipts that the shipped OCR quality predictor learnt from."""
