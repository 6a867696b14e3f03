"""Collections as a whole: list, copy, rename and drop them."""
