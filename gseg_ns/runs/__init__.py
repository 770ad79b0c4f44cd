"""What a trained run can be asked: its groups, its answer to a prompt, its edits, its pictures."""
