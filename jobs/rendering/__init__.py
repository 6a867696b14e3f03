"""Documents into pages, in a process that may be killed: pixels, words, OCR."""
