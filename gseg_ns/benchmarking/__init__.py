"""Tables that anyone can rerun: quality of the methods, and the papers' ablations."""
