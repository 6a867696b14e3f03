"""Training and using OCR quality predictors: labels, table, fit, report, prediction."""
